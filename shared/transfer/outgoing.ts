import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { StowageError } from '../util/errors.ts';
import { Turns } from '../util/turns.ts';
import { chunkBuffers } from './chunk-buffers.ts';
import { CHUNK_BYTES, ChunkDigests, ChunkMap } from './chunks.ts';
import type { DigestAlgorithm } from './digest.ts';
import { type Frame, frameHeader, MAX_PAYLOAD, messageFrame } from './frames.ts';
import { chunkFrames, readChunk } from './send.ts';
import type { OpenedSource } from './source.ts';
import { Throttle } from './throttle.ts';

const questionSchema = z.object({ ask: z.enum(['zeros', 'finish']) });

/**
 * Settles when the stream has taken the bytes, so that their buffer may be used again; throws when it is cut: a stream that is
 * destroyed may never call back.
 */
function write(stream: Duplex, pieces: Buffer[]): Promise<void> {
  const written = new Promise<void>((resolve, reject) => {
    const cut = (): void => reject(new StowageError('stream-cut', 'the sink closed the connection'));
    if (stream.destroyed) return cut();
    stream.once('close', cut);
    for (const piece of pieces.slice(0, -1)) stream.write(piece);
    stream.write(pieces.at(-1)!, (error) => {
      stream.off('close', cut);
      if (error) reject(error);
      else resolve();
    });
  });
  written.catch(() => undefined);
  return written;
}

/**
 * A volume on its way out: answers what the sink asks, on any number of streams at once, and keeps the digest of every
 * chunk that the sink now has.
 *
 *     message {"ask":"zeros"}    zero frames for the chunks that lie in holes, then a message
 *     want                       the chunk: data and its digest, or a zero frame; then `same`
 *     compare                    `same` when the chunk has the digest that is shown, else `other`
 *     message {"ask":"finish"}   message {"digest","etag"}: root digest over all, once every chunk was asked for
 */
export class Outgoing {
  readonly map: ChunkMap;
  readonly #source: OpenedSource;
  readonly #digests: ChunkDigests;
  readonly #throttle: Throttle | undefined;
  /** Small where the rate is, so that something moves all the time. */
  readonly #pieceBytes: number;
  readonly #onSent: (digest: string) => void;

  /** `onSent` is called with the root digest each time that a sink was told it. */
  constructor(
    source: OpenedSource,
    digest: DigestAlgorithm,
    limitBytesPerSecond?: number,
    onSent: (digest: string) => void = () => undefined,
  ) {
    this.#source = source;
    this.#onSent = onSent;
    this.map = new ChunkMap(source.layout.parts, digest);
    this.#digests = new ChunkDigests(this.map);
    this.#throttle = limitBytesPerSecond ? new Throttle(limitBytesPerSecond) : undefined;
    this.#pieceBytes = Math.max(
      4096,
      Math.min(MAX_PAYLOAD, Math.floor((limitBytesPerSecond ?? Infinity) / 2)),
    );
  }

  async answer(frame: Frame, stream: Duplex): Promise<void> {
    if (frame.type === 'want') await this.#send(this.#chunkAt(frame), stream);
    else if (frame.type === 'compare') await this.#compare(this.#chunkAt(frame), frame.payload, stream);
    else if (frame.type === 'message') await this.#answerQuestion(frame.payload, stream);
    else throw new StowageError('stream-corrupt', `a sink does not send frames of type ${frame.type}`);
  }

  #chunkAt(frame: Frame): number {
    const index = frame.offset / CHUNK_BYTES;
    if (Number.isInteger(index) && index < this.map.count) return index;
    throw new StowageError('stream-corrupt', 'the sink asks for what is no chunk of the volume');
  }

  async #answerQuestion(payload: Buffer, stream: Duplex): Promise<void> {
    const question = questionSchema.safeParse(JSON.parse(payload.toString()));
    if (!question.success) throw new StowageError('stream-corrupt', 'the sink asks something unknown');
    if (question.data.ask === 'zeros') {
      await this.#sendZeros(stream);
      return;
    }
    if (!this.#digests.complete)
      throw new StowageError('stream-corrupt', 'the sink has not asked for every chunk');
    await this.#source.checkUnchanged();
    const digest = this.#digests.root();
    await write(stream, [messageFrame({ digest, etag: this.#source.layout.etag })]);
    this.#onSent(digest);
  }

  /** Tells of every run of chunks that hold no data. Each part is looked through once. */
  async #sendZeros(stream: Duplex): Promise<void> {
    for (const [part, { sizeBytes }] of this.map.parts.entries()) {
      const first = this.map.firstChunk(part);
      let next = first;
      for await (const { offset, length } of this.#source.sources[part]!.extents(0, sizeBytes)) {
        await this.#sendRun(next, first + Math.floor(offset / CHUNK_BYTES), stream);
        next = Math.max(next, first + Math.ceil((offset + length) / CHUNK_BYTES));
      }
      await this.#sendRun(next, first + Math.ceil(sizeBytes / CHUNK_BYTES), stream);
    }
    await write(stream, [messageFrame({})]);
  }

  /** The chunks from `first` up to `end`, which is not among them, as zeros. */
  async #sendRun(first: number, end: number, stream: Duplex): Promise<void> {
    const turns = new Turns();
    let length = 0;
    for (let index = first; index < end; index++) {
      if (turns.due) await turns.next();
      const chunk = this.map.chunk(index);
      length += chunk.length;
      this.#digests.set(index, this.map.zeroDigest(chunk.length));
    }
    if (length > 0) await write(stream, [frameHeader('zero', first * CHUNK_BYTES, length)]);
  }

  async #compare(index: number, digest: Buffer, stream: Duplex): Promise<void> {
    const buffer = chunkBuffers.borrow();
    try {
      const own = await (await readChunk(this.#source.sources, this.map, index, buffer)).digest;
      const same = own.equals(digest);
      if (same) this.#digests.set(index, own);
      await write(stream, [frameHeader(same ? 'same' : 'other', index * CHUNK_BYTES, 0)]);
    } finally {
      chunkBuffers.giveBack(buffer);
    }
  }

  async #send(index: number, stream: Duplex): Promise<void> {
    const buffer = chunkBuffers.borrow();
    try {
      const chunk = await readChunk(this.#source.sources, this.map, index, buffer);
      let before: Promise<void> | undefined;
      for await (const frame of chunkFrames(index, chunk, this.#pieceBytes)) {
        await this.#throttle?.take(frame.reduce((sum, piece) => sum + piece.length, 0));
        const now = write(stream, frame);
        await before;
        before = now;
      }
      await before;
      // Before the sink hears of it: it may ask for the end on another connection at once.
      this.#digests.set(index, await chunk.digest);
      await write(stream, [frameHeader('same', index * CHUNK_BYTES, 0)]);
    } finally {
      chunkBuffers.giveBack(buffer);
    }
  }
}
