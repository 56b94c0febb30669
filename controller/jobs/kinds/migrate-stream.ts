import { Readable } from 'node:stream';
import { z } from 'zod';
import { STREAM_FORMATS, type StreamFormat } from '../../../shared/conf/stream.ts';
import { type Volume, volumeSchema } from '../../../shared/conf/volume.ts';
import { poolTraitsSchema } from '../../../shared/protocol/agent.ts';
import { Throttle } from '../../../shared/transfer/throttle.ts';
import { clock, sleep } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { type AgentClient, agentHas, agentVolumePath } from '../../hosts/agent-client.ts';
import type { JobContext, JobKind } from '../job.ts';
import { isTaken, place, refuseUsed } from './migration-spec.ts';

/** So long the program of a stream that was cut may take to end. */
const CUT_MS = 30_000;
const LOOK_MS = 200;

const migrateStreamParamsSchema = z.object({
  /** `host/pool/volume`. */
  source: z.string(),
  target: z.string(),
  keepSource: z.boolean().default(false),
  /** Move the volume although domains use it, which then have to be pointed at the new one. */
  allowUsed: z.boolean().default(false),
  limitBytesPerSecond: z.number().positive().optional(),
});
type Params = z.output<typeof migrateStreamParamsSchema>;

interface Notes {
  format: StreamFormat;
  /** Of the source, before it was sent. */
  volume: Pick<Volume, 'id' | 'etag' | 'notes' | 'allocationBytes'>;
  /** Id at the target; absent: a new one. */
  volumeId: string;
  /** By this the target is known again after a kill. */
  transfer: string;
}
type Context = JobContext<Params, Notes>;

/** Taken of the source for the time of the job. */
const snapshotOf = ({ jobId }: Context): string => `__migration_${jobId}__`;

async function streamsOf(agent: AgentClient, pool: string): Promise<string[]> {
  const { streams = [] } = await agent.json(poolTraitsSchema, `/v1/pools/${encodeURIComponent(pool)}/traits`);
  return streams;
}

/** What neither end is made for is refused before anything is done. */
async function plan(context: Context): Promise<void> {
  const { source, target, keepSource } = context.params;
  const [from, to] = [place(source), place(target)];
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(to.host)]);
  const [ours, theirs] = await Promise.all([streamsOf(sender, from.pool), streamsOf(sink, to.pool)]);
  const format = STREAM_FORMATS.find((each) => ours.includes(each) && theirs.includes(each));
  if (!format)
    throw new StowageError(
      'not-supported',
      'snapshots of the storage travel only from ZFS to ZFS, and from btrfs to btrfs; move or copy the volume without them',
    );
  const volume = await sender.json(volumeSchema, agentVolumePath(from));
  if (volume.format !== 'raw')
    throw new StowageError(
      'not-supported',
      `only raw volumes travel with their snapshots, not ${volume.format} ones`,
    );
  if (volume.isBase)
    throw new StowageError(
      'volume-is-base',
      'a base travels without snapshots: it has none but the one that its clones stand on',
    );
  if (await agentHas(sink, agentVolumePath(to)))
    throw new StowageError('volume-exists', `there is a volume '${target}' already`);
  const keepsId = !keepSource && !(await isTaken(context, volume.id));
  Object.assign(context.notes, {
    format,
    volume,
    volumeId: keepsId ? volume.id : undefined,
    transfer: clock.uuid(),
  });
  await context.save();
}

/** Tries again while what was cut, or killed, is still ending on a host. */
async function whenFree<T>(work: () => Promise<T>): Promise<T> {
  for (const end = clock.monotonicMs() + CUT_MS; ; ) {
    try {
      return await work();
    } catch (error) {
      if (!isStowageError(error, 'volume-in-use') || clock.monotonicMs() > end) throw error;
      await sleep(LOOK_MS);
    }
  }
}

/** Of a move what was written while the snapshot was taken would be lost: it is given up then. */
async function takeSnapshot(context: Context): Promise<void> {
  const { source, keepSource } = context.params;
  const from = place(source);
  const agent = await context.agent(from.host);
  const fence = await context.fence(source);
  const etagNow = async (): Promise<string> => (await agent.json(volumeSchema, agentVolumePath(from))).etag;
  // Of a run that was killed before it could be noted which state it has.
  await deleteSnapshot(context);
  const etag = await etagNow();
  await agent.send(`${agentVolumePath(from)}/snapshots`, {
    ...{ method: 'POST', json: { id: snapshotOf(context) }, fence, signal: context.signal },
  });
  if (!keepSource && (await etagNow()) !== etag) {
    await deleteSnapshot(context);
    throw new StowageError('volume-in-use', `'${source}' is being written to: it moves when nobody does`);
  }
  context.notes.volume = { ...context.notes.volume!, etag };
  await context.save();
}

/** The pieces of a stream, as fast as they may go; tells how far it is. */
async function* paced(context: Context, stream: Readable): AsyncGenerator<Buffer> {
  const { limitBytesPerSecond: limit } = context.params;
  const throttle = limit === undefined ? undefined : new Throttle(limit);
  const expected = context.notes.volume!.allocationBytes;
  let done = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    await throttle?.take(piece.length, context.signal);
    yield piece;
    done += piece.length;
    // How long it is nobody knows before its end.
    context.progress(Math.min(done, expected), expected, done);
  }
}

/**
 * Whether the target is there, and what this job has made: a volume of its name may be another one. A stream that was cut in its last
 * moment may become it still: a change that changes nothing waits for that.
 */
async function hasArrived(context: Context, sink: AgentClient): Promise<boolean> {
  const to = place(context.params.target);
  const fence = await context.fence(context.params.target);
  const path = `${agentVolumePath(to)}/attributes`;
  await whenFree(() => sink.send(path, { method: 'PATCH', json: {}, fence })).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
  });
  return agentHas(sink, `/v1/pools/${encodeURIComponent(to.pool)}/transferred/${context.notes.transfer}`);
}

/** The stream of one agent becomes the volume of the other, in one step; a run after a kill begins anew, unless it is there. */
async function transfer(context: Context): Promise<void> {
  const { source, target } = context.params;
  const { format, volumeId, transfer: id } = context.notes;
  const [from, to] = [place(source), place(target)];
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(to.host)]);
  const snapshot = snapshotOf(context);
  const fence = await context.fence(target);
  if (await hasArrived(context, sink)) return;
  const out = new URLSearchParams({ format: format!, snapshot, older: 'true' });
  const into = new URLSearchParams({ format: format!, snapshot, deleteSnapshot: snapshot, transfer: id! });
  if (volumeId !== undefined) into.set('volumeId', volumeId);
  const stream = await sender.stream(`${agentVolumePath(from)}/stream?${out}`, {
    ...{ signal: context.signal, patient: true, bulk: true },
  });
  const body = Readable.from(paced(context, stream), { objectMode: false });
  try {
    await sink.json(volumeSchema, `${agentVolumePath(to)}/stream?${into}`, {
      ...{ method: 'PUT', body: { stream: body, type: 'application/octet-stream' }, fence },
      ...{ signal: context.signal, patient: true },
    });
  } finally {
    stream.destroy();
  }
}

/** What people keep with the volume. */
async function keep(context: Context): Promise<void> {
  const { target, keepSource } = context.params;
  const { notes } = context.notes.volume!;
  if (keepSource || notes === undefined) return;
  const to = place(target);
  const agent = await context.agent(to.host);
  const fence = await context.fence(target);
  await agent.send(`${agentVolumePath(to)}/attributes`, { method: 'PATCH', json: { notes }, fence });
}

async function deleteSnapshot(context: Context): Promise<void> {
  const { source } = context.params;
  const from = place(source);
  const agent = await context.agent(from.host);
  const fence = await context.fence(source);
  const path = `${agentVolumePath(from)}/snapshots/${snapshotOf(context)}`;
  await whenFree(() => agent.send(path, { method: 'DELETE', fence, patient: true })).catch((error) => {
    if (!isStowageError(error, 'snapshot-not-found', 'volume-not-found')) throw error;
  });
}

/** What has arrived goes again; the source is as it was. */
async function undo(context: Context): Promise<void> {
  if (context.notes.transfer === undefined) return;
  try {
    await removeArrived(context);
  } finally {
    await deleteSnapshot(context);
  }
}

async function removeArrived(context: Context): Promise<void> {
  const { target } = context.params;
  const to = place(target);
  const sink = await context.agent(to.host);
  const fence = await context.fence(target);
  if (await hasArrived(context, sink))
    await sink.send(`${agentVolumePath(to)}?deleteSnapshots=true`, {
      method: 'DELETE',
      fence,
      patient: true,
    });
}

/** Of a move the source goes, in the state that was sent; of a copy only what was taken of it. */
async function leaveSource(context: Context): Promise<void> {
  const { source, keepSource, allowUsed } = context.params;
  if (keepSource) return deleteSnapshot(context);
  const from = place(source);
  const agent = await context.agent(from.host);
  const fence = await context.fence(source);
  const query = new URLSearchParams({ etag: context.notes.volume!.etag, deleteSnapshots: 'true' });
  await agent
    .send(`${agentVolumePath(from)}?${query}`, { method: 'DELETE', fence, allowUsed, patient: true })
    .catch((error) => {
      // Gone is what it shall be: the step was run before, and killed before it could be recorded.
      if (!isStowageError(error, 'volume-not-found')) throw error;
    });
}

/**
 * Moves or copies a volume with its snapshots, as a stream of the storage that both ends have: ZFS, or btrfs. The bytes pass through the
 * controller. Until `keep` the source is the volume and can be gone back to; after it the target is.
 */
export const migrateStream: JobKind<Params, Notes> = {
  kind: 'migrate-stream',
  params: migrateStreamParamsSchema,
  places: ({ source, target }) => ({ source, target }),
  leases: ({ source, target }) => [
    { volume: source, mode: 'write' },
    { volume: target, mode: 'write' },
  ],
  steps: [
    { name: 'refuse-used', run: refuseUsed },
    { name: 'plan', run: plan },
    { name: 'snapshot', run: takeSnapshot },
    { name: 'transfer', run: transfer },
    // A domain may have been defined since. From here on the target is the volume.
    { name: 'refuse-used-again', run: refuseUsed },
    { name: 'keep', run: keep },
    { name: 'leave-source', run: leaveSource },
  ],
  commitStep: 'keep',
  undo,
};
