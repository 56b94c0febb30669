import { z } from 'zod';
import { wipeAlgorithmSchema } from '../../../shared/conf/volume.ts';
import { agentPlace } from '../../hosts/agent-client.ts';
import type { JobKind } from '../job.ts';
import { volumeIdOf } from './volume-id.ts';

const wipeParamsSchema = z.object({
  volume: z.string(),
  algorithm: wipeAlgorithmSchema,
  /** Also while domains use the volume. */
  allowUsed: z.boolean().default(false),
});
type WipeParams = z.infer<typeof wipeParamsSchema>;

/** Overwrites all content of a volume. What is overwritten is gone, so a cancel only stops it half way. */
export const wipe: JobKind<WipeParams, { volumeId: string }> = {
  kind: 'wipe',
  params: wipeParamsSchema,
  places: ({ volume }) => ({ target: volume }),
  leases: ({ volume }) => [{ volume, mode: 'write' }],
  steps: [
    {
      name: 'wipe',
      async run(context) {
        const { volume, algorithm, allowUsed } = context.params;
        const { host, path } = agentPlace(volume);
        const agent = await context.agent(host);
        const fence = await context.fence(volume);
        const volumeId = await volumeIdOf(context, volume);
        const passphrase = await context.passphrases.of(volume);
        await agent.send(`${path}/wipe`, {
          method: 'POST',
          json: { algorithm },
          fence,
          volumeId,
          passphrase,
          allowUsed,
          signal: context.signal,
          patient: true,
        });
      },
    },
  ],
};
