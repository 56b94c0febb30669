import { z } from 'zod';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { agentHas, agentPlace } from '../../hosts/agent-client.ts';
import type { JobContext, JobKind } from '../job.ts';
import { volumeIdOf } from './volume-id.ts';

const baseParamsSchema = z.object({
  source: z.string(),
  /** What it is called once it is a base, in the same pool. */
  target: z.string(),
  /** Also while domains use the volume. */
  allowUsed: z.boolean().default(false),
});
type BaseParams = z.infer<typeof baseParamsSchema>;
interface Notes {
  begun: boolean;
  renaming: boolean;
  volumeId: string;
}
type Context = JobContext<BaseParams, Notes>;

async function refuseTaken(context: Context): Promise<void> {
  const { target } = context.params;
  const { host, path } = agentPlace(target);
  const agent = await context.agent(host);
  if (await agentHas(agent, path))
    throw new StowageError('volume-exists', `there is a volume '${target}' already`);
}

async function setBase(context: Context, isBase: boolean): Promise<void> {
  const { source, allowUsed } = context.params;
  const { host, path } = agentPlace(source);
  const agent = await context.agent(host);
  const fence = await context.fence(source);
  const volumeId = await volumeIdOf(context, source);
  await agent.send(`${path}/base`, {
    ...{ method: 'PUT', json: { isBase }, fence, volumeId, allowUsed, patient: true },
  });
}

async function makeBase(context: Context): Promise<void> {
  context.notes.begun = true;
  await context.save();
  await setBase(context, true);
}

/** What was no base before is none again. */
async function makeVolume(context: Context): Promise<void> {
  if (context.notes.begun) await setBase(context, false);
}

async function rename(context: Context): Promise<void> {
  const { source, target, allowUsed } = context.params;
  const from = agentPlace(source);
  const to = agentPlace(target);
  const agent = await context.agent(from.host);
  const fence = await context.fence(source);
  const volumeId = await volumeIdOf(context, source);
  const { renaming } = context.notes;
  context.notes.renaming = true;
  await context.save();
  try {
    const json = { name: to.name };
    await agent.send(`${from.path}/rename`, {
      ...{ method: 'POST', json, fence, volumeId, allowUsed, patient: true },
    });
  } catch (error) {
    // Under our leases only we can have renamed it, in a run that was killed before it heard of its success.
    if (!renaming || !isStowageError(error, 'volume-not-found')) throw error;
    await agent.send(to.path);
  }
}

/** Makes a base of a volume and gives it the name of one. A kill leaves one that goes on: it takes no write from the first step on. */
export const base: JobKind<BaseParams, Notes> = {
  kind: 'base',
  params: baseParamsSchema,
  places: ({ source, target }) => ({ source, target }),
  leases: ({ source, target }) => [
    { volume: source, mode: 'write' },
    { volume: target, mode: 'write' },
  ],
  commitStep: 'rename',
  undo: makeVolume,
  steps: [
    { name: 'check', run: refuseTaken },
    { name: 'make-base', run: makeBase },
    { name: 'rename', run: rename },
  ],
};
