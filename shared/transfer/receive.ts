import { StowageError } from '../util/errors.ts';
import { chunkBuffers } from './chunk-buffers.ts';
import { CHUNK_BYTES, type ChunkMap } from './chunks.ts';
import { type Frame, FrameParser } from './frames.ts';

/** A chunk that arrived whole. */
export interface ReceivedChunk {
  index: number;
  /** As its sender says. */
  digest: Buffer;
  /** Settles when the bytes are known to have that digest; throws `digest-mismatch`. */
  verified: Promise<void>;
  /** undefined when all of it is zeros. */
  data: { bytes: Buffer<ArrayBuffer>; ranges: { start: number; end: number }[] } | undefined;
}

interface Assembly {
  index: number;
  /** A spare buffer; `bytes` is as much of it as the chunk has. */
  buffer: Buffer<ArrayBuffer>;
  bytes: Buffer<ArrayBuffer>;
  ranges: { start: number; end: number }[];
}

const corrupt = (why: string): StowageError => new StowageError('stream-corrupt', why);

/**
 * Puts the chunks of an extent stream together, from the pieces the network gives. `accept` gets them one at a time, in
 * order, and may use the bytes until the promise it gives is settled, not longer. What goes wrong is thrown by
 * {@link feed}, {@link ready} or {@link finish}: `digest-mismatch` for a chunk whose bytes are not those that were sent,
 * `stream-corrupt` for frames outside the map or out of order, `stream-cut` for an end too early.
 */
export class ExtentDecoder implements Disposable {
  readonly #map: ChunkMap;
  readonly #accept: (chunk: ReceivedChunk) => Promise<void>;
  readonly #other: (frame: Frame) => void;
  readonly #parser: FrameParser;
  #assembly: Assembly | undefined;
  #accepting: Promise<void> = Promise.resolve();
  /** As `#accepting`, without the chunk that came last. */
  #acceptingOthers: Promise<void> = Promise.resolve();
  #ended = false;
  #disposed = false;
  readonly #begin: (kind: 'data' | 'zero', first: number, count: number) => void;

  constructor(
    map: ChunkMap,
    accept: (chunk: ReceivedChunk) => Promise<void>,
    other = (frame: Frame): void => {
      throw corrupt(`a frame of type ${frame.type} has no place here`);
    },
    /** Called before room is made for a chunk or a run of zero chunks; throws for one that nobody asked for. */
    begin: (kind: 'data' | 'zero', first: number, count: number) => void = () => undefined,
  ) {
    this.#begin = begin;
    this.#map = map;
    this.#accept = accept;
    this.#other = other;
    this.#parser = new FrameParser(map.digestBytes, {
      room: (offset, length) => this.#room(offset, length),
      frame: (frame) => this.#take(frame),
    });
  }

  /** Whether the end frame has come. */
  get ended(): boolean {
    return this.#ended;
  }

  feed(piece: Uint8Array): void {
    this.#parser.feed(piece);
  }

  /** Settles when at most one chunk that arrived is not accepted yet: who waits for it bounds the memory. */
  async ready(): Promise<void> {
    await this.#acceptingOthers;
  }

  /** Settles when all chunks that arrived are accepted. */
  async settled(): Promise<void> {
    await this.#accepting;
  }

  async finish(): Promise<void> {
    await this.settled();
    if (!this.#parser.atBoundary)
      throw new StowageError('stream-cut', 'the extent stream ended inside a frame');
    if (!this.#ended) throw new StowageError('stream-cut', 'the extent stream ended without its end frame');
    if (this.#assembly) throw corrupt('the last chunk has no digest');
  }

  #take(frame: Frame): void {
    if (frame.type === 'data') return;
    if (frame.type === 'zero') this.#zeros(frame);
    else if (frame.type === 'chunk') this.#chunk(frame);
    else if (frame.type === 'end') this.#ended = true;
    else this.#other(frame);
  }

  /** Where the bytes of a data frame belong. */
  #room(offset: number, length: number): Uint8Array {
    const index = Math.floor(offset / CHUNK_BYTES);
    if (index >= this.#map.count) throw corrupt('a frame lies beyond the end of the volume');
    if (this.#assembly && this.#assembly.index !== index) throw corrupt('a chunk ended without its digest');
    if (!this.#assembly) {
      this.#begin('data', index, 1);
      const buffer = chunkBuffers.borrow();
      this.#assembly = {
        index,
        buffer,
        bytes: buffer.subarray(0, this.#map.chunk(index).length),
        ranges: [],
      };
    }
    const { bytes, ranges } = this.#assembly;
    const start = offset - index * CHUNK_BYTES;
    const filled = ranges.at(-1)?.end ?? 0;
    if (start < filled || start + length > bytes.length)
      throw corrupt('a frame lies outside its chunk or out of order');
    bytes.fill(0, filled, start);
    ranges.push({ start, end: start + length });
    return bytes.subarray(start, start + length);
  }

  #zeros(frame: Frame): void {
    if (this.#assembly) throw corrupt('a zero frame lies inside a chunk');
    const first = frame.offset / CHUNK_BYTES;
    const count = Math.ceil(frame.length / CHUNK_BYTES);
    if (!Number.isInteger(first) || count === 0 || first + count > this.#map.count)
      throw corrupt('a zero frame does not cover whole chunks of the volume');
    this.#begin('zero', first, count);
    this.#queue(async () => {
      for (let index = first; index < first + count && !this.#disposed; index++) {
        const digest = this.#map.zeroDigest(this.#map.chunk(index).length);
        await this.#accept({ index, digest, verified: Promise.resolve(), data: undefined });
      }
    });
  }

  #chunk(frame: Frame): void {
    const chunk = this.#assembly;
    const index = Math.floor(frame.offset / CHUNK_BYTES);
    if (!chunk || chunk.index !== index) throw corrupt('a digest without its chunk');
    if (frame.offset % CHUNK_BYTES !== 0 || frame.length !== chunk.bytes.length)
      throw corrupt('a digest does not cover its chunk');
    this.#assembly = undefined;
    this.#queue(async () => {
      if (this.#disposed) return chunkBuffers.giveBack(chunk.buffer);
      chunk.bytes.fill(0, chunk.ranges.at(-1)?.end ?? 0);
      const verified = this.#verify(chunk, frame.payload);
      verified.catch(() => undefined);
      try {
        await this.#accept({ index, digest: frame.payload, verified, data: chunk });
        await verified;
      } finally {
        chunkBuffers.giveBack(chunk.buffer);
      }
    });
  }

  async #verify(chunk: Assembly, expected: Buffer): Promise<void> {
    if ((await this.#map.digestOf(chunk.bytes)).equals(expected)) return;
    throw new StowageError('digest-mismatch', `chunk ${chunk.index} arrived with other bytes than were sent`);
  }

  #queue(work: () => Promise<void>): void {
    this.#acceptingOthers = this.#accepting;
    this.#accepting = this.#accepting.then(work);
    this.#accepting.catch(() => undefined);
  }

  /** What is queued is not begun any more; {@link settled} waits for what is being accepted. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    if (this.#assembly) chunkBuffers.giveBack(this.#assembly.buffer);
    this.#assembly = undefined;
  }
}

/** Reads a whole extent stream up to its end frame, at most one chunk ahead of the one being accepted. */
export async function decodeExtents(
  stream: AsyncIterable<Uint8Array>,
  map: ChunkMap,
  accept: (chunk: ReceivedChunk) => Promise<void>,
): Promise<void> {
  using decoder = new ExtentDecoder(map, accept);
  for await (const piece of stream) {
    // Read to its end: a source that has changed meanwhile says so last, and one that is not read to its end counts as cut.
    if (decoder.ended) throw corrupt('the extent stream goes on behind its end frame');
    decoder.feed(piece);
    await decoder.ready();
  }
  await decoder.finish();
}
