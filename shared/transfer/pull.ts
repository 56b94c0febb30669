import type { Duplex } from 'node:stream';
import type { PullProgress } from '../protocol/agent.ts';
import { BlockSignal } from '../util/abort.ts';
import { StowageError } from '../util/errors.ts';
import type { ChunkDigests } from './chunks.ts';
import { PullConnection, type Way } from './pull-connection.ts';
import type { ReceivedChunk } from './receive.ts';
import type { Ticket } from './tls.ts';

/** Connections side by side; each has one chunk on its way while another is written: a kill or a cut costs at most 12 MiB. */
const CONNECTIONS = 3;
/** Chunks that are compared with one question. */
const COMPARE = 64;

/** Streams that turn out not to be the source's, before that is told as an error. */
const MOST_STRANGERS = 64;

/** Where chunks are written to. */
export interface ChunkSink {
  /** What is there, from before too. */
  readonly digests: ChunkDigests;
  /** Settles when the chunk is written, and verified. */
  write(chunk: ReceivedChunk): Promise<void>;
}

export interface PullOptions {
  ticket: Ticket;
  /** Of the source. The addresses are tried one after the other. */
  addresses: readonly string[];
  port: number;
  /** Gives a stream that somebody else brought, or that the source dialled, in place of dialling its addresses. */
  relay?: (signal: AbortSignal) => Promise<Duplex>;
  onProgress(progress: PullProgress): void;
  signal: AbortSignal;
}

/**
 * Fetches a volume from the door of its source: chunks in holes are not asked for, what is on record from before is
 * compared, the rest travels. Gives the root digest over everything, as the source has it, and the state of the source
 * that was read. Throws `host-unreachable` before anything has moved when there is no way to the source.
 */
export async function pullVolume(
  sink: ChunkSink,
  options: PullOptions,
): Promise<{ digest: string; etag: string }> {
  const { addresses, port, ticket } = options;
  using block = new BlockSignal(options.signal);
  const { signal } = block;
  const { digests } = sink;
  const { map } = digests;
  /** Chunks that are right, in this run. */
  const done = new Uint8Array(map.count);
  let doneBytes = 0;
  const all: PullConnection[] = [];

  const settle = (index: number): void => {
    if (!done[index]) doneBytes += map.chunk(index).length;
    done[index] = 1;
    const wireBytes = all.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
    options.onProgress({ doneBytes, totalBytes: map.totalBytes, wireBytes });
  };
  const accept = async (chunk: ReceivedChunk): Promise<void> => {
    const known = chunk.data ? undefined : digests.get(chunk.index);
    if (!known?.equals(chunk.digest)) await sink.write(chunk);
    settle(chunk.index);
  };

  const open = async (way: Way): Promise<PullConnection> => {
    const connection = new PullConnection(way, ticket, map, accept);
    all.push(connection);
    const abort = (): void => connection[Symbol.dispose]();
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      await connection.opened();
    } catch (error) {
      // Nothing came of it; others may have been opened meanwhile.
      all.splice(all.indexOf(connection), 1);
      throw error;
    }
    return connection;
  };
  /** The first address that answers as the right source; what each of the others said is in the error. */
  const findWay = async (): Promise<{ address: string; first: PullConnection }> => {
    const reasons: string[] = [];
    for (const address of addresses) {
      try {
        return { address, first: await open({ address, port }) };
      } catch (error) {
        signal.throwIfAborted();
        reasons.push(`${address}: ${error instanceof Error ? error.message : error}`);
      }
    }
    throw new StowageError('host-unreachable', `no address of the source answers (${reasons.join('; ')})`);
  };
  const { relay } = options;
  /** The next stream that is the source's: others may have found the way here too. */
  const openBrought = async (bring: NonNullable<PullOptions['relay']>): Promise<PullConnection> => {
    for (let strangers = 0; ; strangers++) {
      const stream = await bring(signal);
      try {
        return await open({ stream });
      } catch (error) {
        signal.throwIfAborted();
        if (strangers === MOST_STRANGERS) throw error;
      }
    }
  };
  const { address, first } = relay ? { address: '', first: await openBrought(relay) } : await findWay();

  try {
    signal.throwIfAborted();
    await first.zeros();
    let next = 0;
    /** The next chunk to ask for, or up to {@link COMPARE} that are on record. */
    const take = (): { compare: number[]; want?: number } => {
      const compare: number[] = [];
      for (; next < map.count && compare.length < COMPARE; next++) {
        if (done[next]) continue;
        if (!digests.has(next)) return { compare, want: next++ };
        compare.push(next);
      }
      return { compare };
    };
    const work = async (connection: PullConnection): Promise<void> => {
      while (next < map.count) {
        const { compare, want } = take();
        const others = await connection.compare(
          compare.map((index) => ({ index, digest: digests.get(index)! })),
        );
        for (const index of compare) if (!others.includes(index)) settle(index);
        for (const index of want === undefined ? others : [...others, want]) await connection.want(index);
      }
      await connection.settled();
    };
    const more = async (): Promise<PullConnection> => (relay ? openBrought(relay) : open({ address, port }));
    const workers = [work(first)];
    for (let count = 1; count < CONNECTIONS; count++) workers.push(more().then(work));
    try {
      await Promise.all(workers);
    } catch (error) {
      block[Symbol.dispose]();
      await Promise.allSettled(workers);
      throw error;
    }
    return await first.finish();
  } catch (error) {
    options.signal.throwIfAborted();
    throw error;
  } finally {
    // Nothing is written any more once this is over: what was being accepted is waited for.
    block[Symbol.dispose]();
    await Promise.allSettled(all.map((connection) => connection.settled()));
  }
}
