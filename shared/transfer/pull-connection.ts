import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { clock } from '../util/clock.ts';
import { fromProblem, StowageError, toStowageError } from '../util/errors.ts';
import { CHUNK_BYTES, type ChunkMap } from './chunks.ts';
import { type Frame, frameHeader, messageFrame } from './frames.ts';
import { ExtentDecoder, type ReceivedChunk } from './receive.ts';
import { preSharedKey, secureContext, type Ticket } from './tls.ts';

const DIAL_MS = 3_000;
/** Longest silence while an answer is awaited before the connection counts as cut. */
const STALL_MS = 20_000;
/** A TLS record is 16 KiB at the most. */
const READ_BYTES = 16 << 10;

/** How a sink gets to a source: by dialling it, or on a stream that somebody brought. */
export type Way = { address: string; port: number } | { stream: Duplex };

/** TLS from a sink to a source's door; `feed` gets what arrives, in a buffer that is used again. */
function secure(way: Way, ticket: Ticket, feed: (bytes: Buffer) => void): TLSSocket {
  const options = {
    secureContext,
    pskCallback: () => ({ identity: ticket.transfer, psk: preSharedKey(ticket) }),
    // Asked only of a certificate, which no source has.
    checkServerIdentity: () => new StowageError('ticket-refused', 'what answers is not the source'),
  };
  if ('stream' in way) return connectTls({ ...options, socket: way.stream as Socket }).on('data', feed);
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const onread = {
    buffer,
    callback(count: number): boolean {
      feed(buffer.subarray(0, count));
      return true;
    },
  };
  // `onread` is documented for tls.connect; its types lack it.
  const direct = { ...options, onread, host: way.address, port: way.port };
  return connectTls(direct as ConnectionOptions).setNoDelay(true);
}

/**
 * One connection of a sink to the door of a source. One question at a time; the answers to it are awaited. Chunks that
 * arrive go to `accept`. After an error the connection is gone, and every question throws that error.
 */
export class PullConnection implements Disposable {
  readonly #socket: TLSSocket;
  readonly #map: ChunkMap;
  readonly #decoder: ExtentDecoder;
  #failure: Error | undefined;
  #question:
    | { left: number; answers: Frame[]; resolve(answers: Frame[]): void; reject(error: Error): void }
    | undefined;
  readonly #failed = Promise.withResolvers<never>();
  /** The chunk that was asked for and has not begun to come; the run of zeros that may come next. */
  #expected: { want: number } | { zerosFrom: number } | undefined;
  /** Payload and frame bytes so far. */
  receivedBytes = 0;

  /** Begins to connect; {@link opened} says how it went. */
  constructor(way: Way, ticket: Ticket, map: ChunkMap, accept: (chunk: ReceivedChunk) => Promise<void>) {
    this.#map = map;
    this.#failed.promise.catch(() => undefined);
    this.#decoder = new ExtentDecoder(
      map,
      accept,
      (frame) => this.#answered(frame),
      (kind, first, count) => this.#begin(kind, first, count),
    );
    this.#socket = secure(way, ticket, (bytes) => this.#feed(bytes));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () =>
      this.#fail(new StowageError('stream-cut', 'the source closed the connection')),
    );
  }

  /** Settles when both sides have proved that they hold the ticket. Throws `ticket-refused` when one of them does not. */
  async opened(): Promise<void> {
    const socket = this.#socket;
    const timer = clock.after(DIAL_MS, () =>
      this.#fail(new StowageError('stream-cut', `no answer within ${DIAL_MS} ms`)),
    );
    const secured = once(socket, 'secureConnect');
    secured.catch(() => undefined);
    try {
      await Promise.race([secured, this.#failed.promise]);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_SSL_'))
        throw new StowageError('ticket-refused', 'the source does not accept the ticket', { cause: error });
      throw error;
    } finally {
      timer.stop();
    }
    // Told anew after each silence: one between two questions is none of the source's.
    socket.on('timeout', () => {
      if (this.#question)
        socket.destroy(new StowageError('stream-cut', `nothing moved for ${STALL_MS / 1000} s`));
    });
    socket.setTimeout(STALL_MS);
  }

  /** Settles when every chunk that lies in a hole of the source has been accepted. */
  async zeros(): Promise<void> {
    this.#expected = { zerosFrom: 0 };
    await this.#ask([messageFrame({ ask: 'zeros' })], 1);
    this.#expected = undefined;
    await this.settled();
  }

  /** Settles when the chunk has arrived and all before it have been accepted. */
  async want(index: number): Promise<void> {
    this.#expected = { want: index };
    await this.#ask([frameHeader('want', index * CHUNK_BYTES, this.#map.chunk(index).length)], 1);
    if (this.#expected) throw new StowageError('stream-corrupt', `the source did not send chunk ${index}`);
    await this.#decoder.ready();
  }

  /** Settles when everything that arrived has been accepted. */
  async settled(): Promise<void> {
    await this.#decoder.settled();
  }

  /** Which of the chunks have another digest at the source. */
  async compare(chunks: { index: number; digest: Buffer }[]): Promise<number[]> {
    if (chunks.length === 0) return [];
    const frames = chunks.flatMap(({ index, digest }) => [
      frameHeader('compare', index * CHUNK_BYTES, 0),
      digest,
    ]);
    const answers = await this.#ask(frames, chunks.length);
    return answers.filter(({ type }) => type !== 'same').map(({ offset }) => offset / CHUNK_BYTES);
  }

  /** The root digest over all, and the state of the source that it is of. Only when every chunk was asked for. */
  async finish(): Promise<{ digest: string; etag: string }> {
    const [answer] = await this.#ask([messageFrame({ ask: 'finish' })], 1);
    return JSON.parse(answer!.payload.toString()) as { digest: string; etag: string };
  }

  /** Refuses what was not asked for: it would be kept, and there may be any amount of it. */
  #begin(kind: 'data' | 'zero', first: number, count: number): void {
    const expected = this.#expected;
    if (expected && 'want' in expected && expected.want === first && count === 1) this.#expected = undefined;
    else if (kind === 'zero' && expected && 'zerosFrom' in expected && first >= expected.zerosFrom)
      expected.zerosFrom = first + count;
    else throw new StowageError('stream-corrupt', 'the source sent what nobody asked for');
  }

  #ask(frames: Buffer[], answers: number): Promise<Frame[]> {
    if (this.#failure) return Promise.reject(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<Frame[]>();
    this.#question = { left: answers, answers: [], resolve, reject };
    this.#socket.write(Buffer.concat(frames));
    return promise;
  }

  #feed(bytes: Buffer): void {
    // Nothing is put into a buffer that was given back.
    if (this.#failure) return;
    this.receivedBytes += bytes.length;
    try {
      this.#decoder.feed(bytes);
    } catch (error) {
      this.#fail(toStowageError(error));
    }
  }

  #answered(frame: Frame): void {
    if (frame.type === 'message') {
      const { error } = JSON.parse(frame.payload.toString()) as { error?: unknown };
      if (error) throw fromProblem(error, 'stream-cut', 'the source gave up');
    }
    const question = this.#question;
    if (!question) throw new StowageError('stream-corrupt', 'the source sent what nobody asked for');
    question.answers.push(frame);
    if (--question.left > 0) return;
    this.#question = undefined;
    question.resolve(question.answers);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#failed.reject(this.#failure);
    this.#socket.destroy();
    this.#decoder[Symbol.dispose]();
    this.#question?.reject(this.#failure);
    this.#question = undefined;
  }

  [Symbol.dispose](): void {
    this.#fail(new StowageError('stream-cut', 'the transfer has ended'));
  }
}
