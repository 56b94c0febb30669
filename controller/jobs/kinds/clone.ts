import { z } from 'zod';
import { snapshotIdSchema } from '../../../shared/protocol/agent.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { agentHas, agentPlace } from '../../hosts/agent-client.ts';
import type { JobKind } from '../job.ts';

const cloneParamsSchema = z.object({
  source: z.string(),
  target: z.string(),
  /** It stands on its source, which is a base, or on a snapshot of that. */
  linked: z.boolean().default(false),
  snapshot: snapshotIdSchema.optional(),
});
type CloneParams = z.infer<typeof cloneParamsSchema>;

/** A full copy in the same pool, or a linked clone, made by its agent. */
export const clone: JobKind<CloneParams, { begun: boolean }> = {
  kind: 'clone',
  params: cloneParamsSchema,
  places: ({ source, target }) => ({ source, target }),
  leases: ({ source, target }) => [
    { volume: source, mode: 'read' },
    { volume: target, mode: 'write' },
  ],
  steps: [
    {
      name: 'check',
      async run(context) {
        const target = agentPlace(context.params.target);
        const agent = await context.agent(target.host);
        if (await agentHas(agent, target.path))
          throw new StowageError('volume-exists', `there is a volume '${context.params.target}' already`);
      },
    },
    {
      name: 'clone',
      async run(context) {
        const source = agentPlace(context.params.source);
        const target = agentPlace(context.params.target);
        const agent = await context.agent(source.host);
        const { linked, snapshot } = context.params;
        const { begun } = context.notes;
        const fence = await context.fence(context.params.target);
        context.notes.begun = true;
        await context.save();
        await agent
          .send(`${source.path}/clone`, {
            method: 'POST',
            json: { name: target.name, linked, snapshot },
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
