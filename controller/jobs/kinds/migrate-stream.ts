import { Readable } from 'node:stream';
import { z } from 'zod';
import { STREAM_FORMATS, type StreamFormat } from '../../../shared/conf/stream.ts';
import { type Snapshot, snapshotSchema, type Volume, volumeSchema } from '../../../shared/conf/volume.ts';
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
  /** The target is a copy, or becomes one: it follows the snapshots of the source, up to the newest. */
  refresh: z.boolean().default(false),
  /** Although domains use what is taken: the source of a move, or the copy that is brought on. */
  allowUsed: z.boolean().default(false),
  limitBytesPerSecond: z.number().positive().optional(),
});
type Params = z.output<typeof migrateStreamParamsSchema>;

interface Notes {
  format: StreamFormat;
  /** Of a refresh: the newest of the source, which the copy is brought to. */
  newest?: string;
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

/** The snapshots of a volume, oldest first. */
function snapshotsOf(agent: AgentClient, volume: string): Promise<Snapshot[]> {
  return agent.json(z.array(snapshotSchema), `${agentVolumePath(place(volume))}/snapshots`);
}

/**
 * The snapshot that a copy has come to: its last one. Throws `volume-changed` where the source has no such snapshot, so that nothing tells what
 * has changed since.
 */
async function baseOf(context: Context): Promise<string> {
  const { source, target } = context.params;
  const [sender, sink] = [await context.agent(place(source).host), await context.agent(place(target).host)];
  const [ours, theirs] = await Promise.all([snapshotsOf(sender, source), snapshotsOf(sink, target)]);
  const base = theirs.at(-1);
  if (!base)
    throw new StowageError(
      'volume-changed',
      `'${target}' has no snapshot: it is no copy that follows those of '${source}'`,
    );
  const same = ours.find(({ id }) => id === base.id);
  // A name may be given again, to what was taken later.
  if (same && same.guid === base.guid) return base.id;
  throw new StowageError(
    'volume-changed',
    `the last snapshot of '${target}', ${base.id}, is none of '${source}'${same ? ', which has another one of that name' : ''}: nothing tells what has changed since`,
  );
}

/**
 * The format in which a volume travels with its snapshots. Throws `not-supported` where one end has no such streams, or for a refresh where
 * they only hold whole volumes.
 */
export async function streamFormatOf(
  agent: Context['agent'],
  { source, target, refresh }: Pick<Params, 'source' | 'target' | 'refresh'>,
): Promise<StreamFormat> {
  const [from, to] = [place(source), place(target)];
  const [sender, sink] = await Promise.all([agent(from.host), agent(to.host)]);
  const [ours, theirs] = await Promise.all([streamsOf(sender, from.pool), streamsOf(sink, to.pool)]);
  const format = STREAM_FORMATS.find((each) => ours.includes(each) && theirs.includes(each));
  if (!format)
    throw new StowageError(
      'not-supported',
      'snapshots of the storage travel only from ZFS to ZFS, and from btrfs to btrfs; move or copy the volume without them',
    );
  if (refresh && format !== 'zfs')
    throw new StowageError(
      'not-supported',
      'only ZFS sends what has changed between snapshots; copy the volume anew, or refresh it without snapshots',
    );
  return format;
}

/** What neither end is made for is refused before anything is done. */
async function plan(context: Context): Promise<void> {
  const { source, target, keepSource, refresh } = context.params;
  const [from, to] = [place(source), place(target)];
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(to.host)]);
  const format = await streamFormatOf(context.agent, context.params);
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
  const isThere = await agentHas(sink, agentVolumePath(to));
  if (isThere && !refresh) throw new StowageError('volume-exists', `there is a volume '${target}' already`);
  if (refresh) context.notes.newest = await newestOf(context);
  if (isThere) await baseOf(context);
  const keepsId = !keepSource && !(await isTaken(context, volume.id));
  Object.assign(context.notes, {
    format,
    volume,
    volumeId: keepsId ? volume.id : undefined,
    transfer: clock.uuid(),
  });
  await context.save();
}

/** What a refresh brings the copy to. */
async function newestOf({ params: { source }, agent }: Context): Promise<string> {
  const newest = (await snapshotsOf(await agent(place(source).host), source)).at(-1);
  if (newest) return newest.id;
  throw new StowageError(
    'snapshot-not-found',
    `'${source}' has no snapshot, and a copy with snapshots follows them: take one, by vol snapshot create`,
  );
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
  const { source, keepSource, refresh } = context.params;
  if (refresh) return;
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

/** A stream that was cut may be ending still: a change of the target that changes nothing waits for that. */
async function untilFree(context: Context): Promise<void> {
  const to = place(context.params.target);
  const sink = await context.agent(to.host);
  const fence = await context.fence(context.params.target);
  const path = `${agentVolumePath(to)}/attributes`;
  await whenFree(() => sink.send(path, { method: 'PATCH', json: {}, fence })).catch((error) => {
    if (!isStowageError(error, 'volume-not-found')) throw error;
  });
}

/** Whether the target is there, and what this job has made: a volume of its name may be another one. */
async function hasArrived(context: Context, sink: AgentClient): Promise<boolean> {
  const to = place(context.params.target);
  await untilFree(context);
  return agentHas(sink, `/v1/pools/${encodeURIComponent(to.pool)}/transferred/${context.notes.transfer}`);
}

type Query = Record<string, string>;

/** The stream of one agent becomes the volume of the other, in one step. */
async function pass(context: Context, out: Query, into: Query): Promise<void> {
  const { source, target, allowUsed } = context.params;
  const format = context.notes.format!;
  const [from, to] = [place(source), place(target)];
  const [sender, sink] = await Promise.all([context.agent(from.host), context.agent(to.host)]);
  const fence = await context.fence(target);
  const queryOf = (query: Query): URLSearchParams => new URLSearchParams({ format, ...query });
  const options = { signal: context.signal, patient: true };
  const stream = await sender.stream(`${agentVolumePath(from)}/stream?${queryOf(out)}`, {
    ...options,
    bulk: true,
  });
  const body = Readable.from(paced(context, stream), { objectMode: false });
  try {
    await sink.json(volumeSchema, `${agentVolumePath(to)}/stream?${queryOf(into)}`, {
      ...{ method: 'PUT', body: { stream: body, type: 'application/octet-stream' }, fence },
      ...{ ...options, allowUsed },
    });
  } finally {
    stream.destroy();
  }
}

/** A new volume, with all snapshots up to one. A run after a kill begins anew, unless it is there. */
async function sendWhole(context: Context): Promise<void> {
  const { volumeId, transfer: id = '', newest } = context.notes;
  if (await hasArrived(context, await context.agent(place(context.params.target).host))) return;
  const snapshot = newest ?? snapshotOf(context);
  await pass(
    context,
    { snapshot, older: 'true' },
    {
      ...{ snapshot, transfer: id },
      ...(newest === undefined && { deleteSnapshot: snapshot }),
      ...(volumeId !== undefined && { volumeId }),
    },
  );
}

/** Brings a copy from its last snapshot to the newest of the source. A run after a kill goes on from the last that came. */
async function sendChanges(context: Context, snapshot: string): Promise<void> {
  await untilFree(context);
  const base = await baseOf(context);
  if (base !== snapshot) return pass(context, { snapshot, base, older: 'true' }, { snapshot, base });
  // Nothing has changed at the source. What was written to the copy itself is said.
  const { target, allowUsed } = context.params;
  const to = place(target);
  const sink = await context.agent(to.host);
  const query = new URLSearchParams({ format: context.notes.format!, snapshot, base });
  const fence = await context.fence(target);
  await sink.send(`${agentVolumePath(to)}/stream?${query}`, { method: 'PUT', fence, allowUsed });
}

async function transfer(context: Context): Promise<void> {
  const { newest } = context.notes;
  const to = place(context.params.target);
  if (newest !== undefined && (await agentHas(await context.agent(to.host), agentVolumePath(to))))
    return sendChanges(context, newest);
  return sendWhole(context);
}

/** What people keep with the volume. */
async function keep(context: Context): Promise<void> {
  const { target, keepSource } = context.params;
  const { id: sourceId, notes } = context.notes.volume!;
  const to = place(target);
  const agent = await context.agent(to.host);
  if (keepSource) {
    const { id } = await agent.json(volumeSchema, agentVolumePath(to));
    return context.inventory.noteCopy(id, { sourceId, snapshot: context.notes.newest });
  }
  if (notes === undefined) return;
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
  // A copy that was brought on is good at each snapshot; this finds only what was made anew.
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
  const { source, keepSource, allowUsed, refresh } = context.params;
  if (refresh) return;
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
 * Moves or copies a volume with its snapshots, as a stream of the storage that both ends have: ZFS, or btrfs; or brings a copy up to the
 * newest snapshot of its source, by what has changed since its own last one. The bytes pass through the controller. Until `keep` the source is the volume and can be gone back to; after it the target is.
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
