import { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/names.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import type { JobKind } from './job.ts';

const agentPath = (reference: string): { host: string; path: string; name: string } => {
  const [host = '', pool = '', name = ''] = splitReference(reference);
  return { host, name, path: agentVolumePath({ pool, volume: name }) };
};

export const cloneParamsSchema = z.object({ source: z.string(), target: z.string() });
type CloneParams = z.infer<typeof cloneParamsSchema>;

/** A full copy in the same pool, made by its agent. */
export const clone: JobKind<CloneParams, { begun: boolean }> = {
  kind: 'clone',
  params: cloneParamsSchema,
  leases: ({ source, target }) => [
    { volume: source, mode: 'read' },
    { volume: target, mode: 'write' },
  ],
  steps: [
    {
      name: 'check',
      async run(context) {
        const target = agentPath(context.params.target);
        const agent = await context.agent(target.host);
        const taken = await agent.send(target.path).then(
          () => true,
          (error) => {
            if (error.code !== 'volume-not-found') throw error;
            return false;
          },
        );
        if (taken)
          throw new StowageError('volume-exists', `there is a volume '${context.params.target}' already`);
      },
    },
    {
      name: 'clone',
      async run(context) {
        const source = agentPath(context.params.source);
        const target = agentPath(context.params.target);
        const agent = await context.agent(source.host);
        const { begun } = context.notes;
        const fence = await context.fence(context.params.target);
        context.notes.begun = true;
        await context.save();
        await agent
          .send(`${source.path}/clone`, {
            method: 'POST',
            json: { name: target.name },
            fence,
            signal: context.signal,
            patient: true,
          })
          .catch((error) => {
            // Under our lease only we can have made it, in a run that was killed before it heard of its success.
            if (!(begun && error.code === 'volume-exists')) throw error;
          });
      },
    },
  ],
};

export const wipeParamsSchema = z.object({
  volume: z.string(),
  algorithm: z.enum(['zero', 'random', 'trim']).default('zero'),
  /** Also while domains use the volume. */
  allowUsed: z.boolean().default(false),
});
type WipeParams = z.infer<typeof wipeParamsSchema>;

/** Overwrites all content of a volume. What is overwritten is gone, so a cancel only stops it half way. */
export const wipe: JobKind<WipeParams, Record<string, never>> = {
  kind: 'wipe',
  params: wipeParamsSchema,
  leases: ({ volume }) => [{ volume, mode: 'write' }],
  steps: [
    {
      name: 'wipe',
      async run(context) {
        const { volume, algorithm, allowUsed } = context.params;
        const { host, path } = agentPath(volume);
        const agent = await context.agent(host);
        const fence = await context.fence(volume);
        await agent.send(`${path}/wipe`, {
          method: 'POST',
          json: { algorithm },
          fence,
          allowUsed,
          signal: context.signal,
          patient: true,
        });
      },
    },
  ],
};
