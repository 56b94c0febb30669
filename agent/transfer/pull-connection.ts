import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, createSecureContext, type TLSSocket } from 'node:tls';
import type { Offer } from '../../shared/protocol/agent.ts';
import { CHUNK_BYTES, type ChunkMap } from '../../shared/transfer/chunks.ts';
import { type Frame, frameHeader, messageFrame } from '../../shared/transfer/frames.ts';
import { ExtentDecoder, type ReceivedChunk } from '../../shared/transfer/receive.ts';
import { fromProblem, StowageError, toStowageError } from '../../shared/util/errors.ts';
import { TLS } from './tls.ts';

const DIAL_MS = 3_000;
/** Longest silence while an answer is awaited before the connection counts as cut. */
const STALL_MS = 20_000;
/** A TLS record is 16 KiB at the most. */
const READ_BYTES = 16 << 10;

/** No authorities, whose reading takes long: the one good certificate is known by its fingerprint. */
const secureContext = createSecureContext({ ca: [], ...TLS });

/** TLS from a sink to a source's door; `feed` gets what arrives, in a buffer that is used again. */
function secure(
  way: { address: string; port: number } | { stream: Duplex },
  feed: (bytes: Buffer) => void,
): TLSSocket {
  const options = { secureContext, rejectUnauthorized: false };
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
  receivedBytes = 0;

  private constructor(
    way: Parameters<typeof secure>[0],
    map: ChunkMap,
    accept: (chunk: ReceivedChunk) => Promise<void>,
  ) {
    this.#map = map;
    this.#decoder = new ExtentDecoder(map, accept, (frame) => this.#answered(frame));
    this.#socket = secure(way, (bytes) => this.#feed(bytes));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () =>
      this.#fail(new StowageError('stream-cut', 'the source closed the connection')),
    );
  }

  /** Connects and proves both sides: the source by its certificate, the sink by the ticket. */
  static async open(
    way: { address: string; port: number } | { stream: Duplex },
    offer: Offer,
    ticket: string,
    map: ChunkMap,
    accept: (chunk: ReceivedChunk) => Promise<void>,
  ): Promise<PullConnection> {
    const connection = new PullConnection(way, map, accept);
    const socket = connection.#socket;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => socket.destroy(new Error(`no answer within ${DIAL_MS} ms`)), DIAL_MS);
      const failed = (error?: Error): void => {
        clearTimeout(timer);
        reject(error ?? new StowageError('stream-cut', 'the source closed the connection'));
      };
      socket.once('error', failed);
      socket.once('close', failed);
      socket.once('secureConnect', () => {
        clearTimeout(timer);
        if (socket.getPeerCertificate().fingerprint256 === offer.fingerprint) return resolve();
        socket.destroy();
        reject(new StowageError('ticket-refused', 'the source that answered is not the one the offer names'));
      });
    });
    socket.setTimeout(STALL_MS, () => {
      if (connection.#question)
        socket.destroy(new StowageError('stream-cut', `nothing moved for ${STALL_MS / 1000} s`));
    });
    socket.write(messageFrame({ ticket }));
    return connection;
  }

  /** Settles when every chunk that lies in a hole of the source has been accepted. */
  async zeros(): Promise<void> {
    await this.#ask([messageFrame({ ask: 'zeros' })], 1);
    await this.settled();
  }

  /** Settles when the chunk has arrived and all before it have been accepted. */
  async want(index: number): Promise<void> {
    await this.#ask([frameHeader('want', index * CHUNK_BYTES, this.#map.chunk(index).length)], 1);
    await this.#decoder.ready();
  }

  /** Settles when everything that arrived has been accepted. */
  async settled(): Promise<void> {
    await this.#decoder.settled();
  }

  /** Which of the chunks have another digest at the source. */
  async compare(chunks: { index: number; digest: Buffer }[]): Promise<number[]> {
    const frames = chunks.flatMap(({ index, digest }) => [
      frameHeader('compare', index * CHUNK_BYTES, 0),
      digest,
    ]);
    if (chunks.length === 0) return [];
    const answers = await this.#ask(frames, chunks.length);
    return answers.filter(({ type }) => type !== 'same').map(({ offset }) => offset / CHUNK_BYTES);
  }

  /** The root digest over all, and the state of the source that it is of. Only when every chunk was asked for. */
  async finish(): Promise<{ digest: string; etag: string }> {
    const [answer] = await this.#ask([messageFrame({ ask: 'finish' })], 1);
    return JSON.parse(answer!.payload.toString()) as { digest: string; etag: string };
  }

  #ask(frames: Buffer[], answers: number): Promise<Frame[]> {
    if (this.#failure) return Promise.reject(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<Frame[]>();
    this.#question = { left: answers, answers: [], resolve, reject };
    this.#socket.write(Buffer.concat(frames));
    return promise;
  }

  #feed(bytes: Buffer): void {
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
    this.#socket.destroy();
    this.#decoder[Symbol.dispose]();
    this.#question?.reject(this.#failure);
    this.#question = undefined;
  }

  [Symbol.dispose](): void {
    this.#fail(new StowageError('stream-cut', 'the transfer has ended'));
  }
}
