import { once } from 'node:events';
import { Agent, type ClientRequest, type IncomingMessage, request } from 'node:http';
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Receiver, SendProgress } from '../../shared/protocol/agent.ts';
import { CHUNK_BYTES, ChunkDigests, ChunkMap } from '../../shared/transfer/chunks.ts';
import { EXTENTS_TYPE, frameHeader } from '../../shared/transfer/frames.ts';
import { chunkFrames, readChunk } from '../../shared/transfer/send.ts';
import { fromProblem, StowageError } from '../../shared/util/errors.ts';
import type { VolumeSource } from '../backends/backend.ts';
import { Throttle } from './throttle.ts';

/**
 * Streams side by side, with one chunk each under way. Together with the 4 MiB that a sink lets
 * go without being durable, a kill costs at most 16 MiB.
 */
export const STRIPES = 3;
/** Chunks that one request carries at the most. */
const BATCH = 1024;
/** Longest silence of a connection under way before it counts as cut. */
const STALL_MS = 20_000;
const DIAL_MS = 3_000;

export interface SendOptions {
  ticket: string;
  receiver: Receiver;
  /** Gives a stream that somebody else brought, in place of dialling the receiver's addresses. */
  relay?: () => Promise<Duplex>;
  limitBytesPerSecond?: number;
  onProgress(progress: SendProgress): void;
  signal: AbortSignal;
}

function dialTcp(address: string, port: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host: address, port, signal });
    const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${DIAL_MS} ms`)), DIAL_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket.setNoDelay(true));
    });
  });
}

/** TLS to the receiver; the certificate must be the very one the controller told us of. */
function secure(stream: Duplex, fingerprint: string): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ socket: stream as Socket, rejectUnauthorized: false, minVersion: 'TLSv1.3' });
    socket.setTimeout(STALL_MS, () =>
      socket.destroy(new StowageError('stream-cut', `nothing moved for ${STALL_MS / 1000} s`)),
    );
    socket.once('error', reject);
    socket.once('close', () => reject(new StowageError('stream-cut', 'the sink closed the connection')));
    socket.once('secureConnect', () => {
      if (socket.getPeerCertificate().fingerprint256 === fingerprint) return resolve(socket);
      socket.destroy();
      reject(new StowageError('ticket-refused', 'the sink that answered is not the one the ticket names'));
    });
  });
}

/** The first address that answers as the right receiver, or `host-unreachable` with what each one said. */
async function findAddress(receiver: Receiver, signal: AbortSignal): Promise<string> {
  const reasons: string[] = [];
  for (const address of receiver.addresses) {
    try {
      const socket = await secure(await dialTcp(address, receiver.port, signal), receiver.fingerprint);
      socket.destroy();
      return address;
    } catch (error) {
      signal.throwIfAborted();
      reasons.push(`${address}: ${error instanceof Error ? error.message : error}`);
    }
  }
  throw new StowageError('host-unreachable', `no address of the sink answers (${reasons.join('; ')})`);
}

async function answer(outgoing: ClientRequest): Promise<Buffer> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
  });
  const body: Buffer[] = [];
  for await (const part of response) body.push(part as Buffer);
  const bytes = Buffer.concat(body);
  if (response.statusCode! < 300) return bytes;
  const problem: unknown = JSON.parse(bytes.toString() || '{}');
  throw fromProblem(problem, 'stream-cut', `the sink answered ${response.statusCode}`);
}

/** Waits for all, and after a failure ends the others first: nobody reads a source that its owner closes. */
async function allOrNone(work: Promise<void>[], stop: () => void): Promise<void> {
  try {
    await Promise.all(work);
  } catch (error) {
    stop();
    await Promise.allSettled(work);
    throw error;
  }
}

/**
 * Sends a volume to a receiver: what the receiver has on record is read and compared, not sent again. Chunks go out on
 * several connections. A receiver answers when it has written a chunk, which may be a few MiB before it is durable: one
 * that is killed then lacks chunks at the commit, and the volume is sent again, which sends just those.
 * Gives the root digest over everything. Throws `host-unreachable` before anything was sent when there is no way.
 */
export async function sendVolume(
  source: VolumeSource,
  options: SendOptions,
): Promise<{ digest: string; wireBytes: number }> {
  const { receiver, ticket } = options;
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const map = new ChunkMap(source.layout.parts);
  const address = options.relay ? undefined : await findAddress(receiver, signal);
  const agent = new Agent({ keepAlive: true, maxSockets: STRIPES });
  const open = async (): Promise<TLSSocket> => {
    const stream =
      address === undefined ? await options.relay!() : await dialTcp(address, receiver.port, signal);
    return secure(stream, receiver.fingerprint);
  };
  agent.createConnection = (_options, callback) => {
    open().then(
      (socket) => callback?.(null, socket),
      (error) => callback?.(error, undefined as unknown as Duplex),
    );
    return undefined;
  };
  const send = (method: string, path: string): ClientRequest =>
    request({
      agent,
      method,
      path,
      signal,
      host: 'sink',
      headers: { authorization: `Bearer ${ticket}`, 'content-type': EXTENTS_TYPE },
    });

  try {
    const query = send('GET', '/digests');
    query.end();
    const there = ChunkDigests.parse(map, await answer(query));
    const ours = new ChunkDigests(map);
    const throttle = options.limitBytesPerSecond ? new Throttle(options.limitBytesPerSecond) : undefined;
    const totalBytes = map.totalBytes;
    let doneBytes = 0;
    let wireBytes = 0;
    let next = 0;

    /** The frames of the next chunks that the sink lacks: any number of zeros, and at most one chunk of data. */
    async function* batch(buffer: Buffer<ArrayBuffer>): AsyncGenerator<Buffer> {
      for (let count = 0; count < BATCH && next < map.count; count++) {
        const index = next++;
        const chunk = await readChunk(source.sources, map, index, buffer);
        const known = there.get(index);
        const same = known !== undefined && (await chunk.digest).equals(known);
        if (!same) yield* chunkFrames(index, chunk);
        ours.set(index, await chunk.digest);
        doneBytes += chunk.bytes.length;
        if (!same && chunk.ranges.length > 0) break;
      }
    }

    const stripe = async (): Promise<void> => {
      const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      while (next < map.count) {
        signal.throwIfAborted();
        let put: ClientRequest | undefined;
        let answered: Promise<unknown> = Promise.resolve();
        for await (const piece of batch(buffer)) {
          if (!put) {
            put = send('PUT', '/extents');
            answered = answer(put);
            answered.catch(() => undefined);
          }
          await throttle?.take(piece.length, signal);
          wireBytes += piece.length;
          if (!put.write(piece)) await Promise.race([once(put, 'drain', { signal }), answered]);
        }
        put?.end(frameHeader('end', 0, 0));
        await answered;
        options.onProgress({ doneBytes, totalBytes, wireBytes });
      }
    };
    await allOrNone(Array.from({ length: STRIPES }, stripe), () => stop.abort());
    await source.checkUnchanged();
    return { digest: ours.root(), wireBytes };
  } finally {
    agent.destroy();
  }
}
