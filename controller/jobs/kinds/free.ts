import { z } from 'zod';
import { trashIdSchema } from '../../../shared/conf/trash.ts';
import { clock, sleep } from '../../../shared/util/clock.ts';
import { isStowageError } from '../../../shared/util/errors.ts';
import type { AgentClient } from '../../hosts/agent-client.ts';
import type { JobContext, JobKind } from '../job.ts';
import { place } from './migration-spec.ts';

/** Overwritten by one question to the agent, which notes how far it is after each. */
const PART_BYTES = 64 << 20;
const LEAST_PART_BYTES = 1 << 20;
/** So long a part may take that nobody waits for any more. */
const BUSY_MS = 120_000;
const LOOK_MS = 500;

const freeParamsSchema = z.object({
  /** `host/pool/volume`, as it was called; by now another one may be called so. */
  volume: z.string(),
  /** In the trash of its pool. */
  id: trashIdSchema,
  limitBytesPerSecond: z.number().positive().optional(),
});
export type FreeParams = z.infer<typeof freeParamsSchema>;
type Context = JobContext<FreeParams, object>;

const wipedPartSchema = z.object({ doneBytes: z.number(), totalBytes: z.number() });

const trashPath = ({ volume, id }: FreeParams): { host: string; path: string } => {
  const { host, pool } = place(volume);
  return { host, path: `/v1/pools/${encodeURIComponent(pool)}/trash/${id}` };
};

/** A part that was asked for before a pause or a kill may be on its way still: it is waited for. */
async function nextPart(context: Context, agent: AgentClient, path: string, mostBytes: number) {
  for (const end = clock.monotonicMs() + BUSY_MS; ; ) {
    try {
      return await agent.json(wipedPartSchema, path, {
        ...{ method: 'POST', json: { mostBytes }, patient: true, signal: context.signal },
      });
    } catch (error) {
      if (!isStowageError(error, 'volume-in-use') || clock.monotonicMs() > end) throw error;
      await sleep(LOOK_MS, context.signal);
    }
  }
}

/** Part by part, at the rate that was asked for; a run after a kill goes on behind the last part. */
async function overwriteAll(context: Context): Promise<void> {
  const { limitBytesPerSecond: limit } = context.params;
  const { host, path } = trashPath(context.params);
  const agent = await context.agent(host);
  const mostBytes = Math.round(
    limit === undefined ? PART_BYTES : Math.min(PART_BYTES, Math.max(LEAST_PART_BYTES, limit)),
  );
  for (;;) {
    context.signal.throwIfAborted();
    const began = clock.monotonicMs();
    const { doneBytes, totalBytes } = await nextPart(context, agent, `${path}/wipe`, mostBytes);
    context.progress(doneBytes, totalBytes, 0);
    if (doneBytes >= totalBytes) return;
    const left = limit === undefined ? 0 : (mostBytes / limit) * 1000 - (clock.monotonicMs() - began);
    if (left > 0) await sleep(left, context.signal);
  }
}

async function purge(context: Context): Promise<void> {
  const { host, path } = trashPath(context.params);
  const agent = await context.agent(host);
  await agent.send(path, { method: 'DELETE', patient: true }).catch((error) => {
    // Gone is what it shall be: the step was run before, and killed before it could be recorded.
    if (!isStowageError(error, 'volume-not-found')) throw error;
  });
}

/**
 * Overwrites what a volume held that is in the trash, and deletes it. Nobody waits for that: its name is free already. A cancel leaves
 * in the trash what is not overwritten yet.
 */
export const free: JobKind<FreeParams, object> = {
  kind: 'free',
  params: freeParamsSchema,
  places: ({ volume }) => ({ target: volume }),
  leases: () => [],
  steps: [
    { name: 'overwrite', run: overwriteAll },
    { name: 'delete', run: purge },
  ],
};
