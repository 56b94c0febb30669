import { StowageError } from '../util/errors.ts';
import { CHUNK_BYTES, type ChunkMap, digestOf, zeroDigest } from './chunks.ts';
import { readFrames } from './frames.ts';

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

/** Chunk buffers are used again: allocating 4 MiB for each chunk costs more than moving it. */
const spare: Buffer<ArrayBuffer>[] = [];
const MOST_SPARE = 16;

function borrow(): Buffer<ArrayBuffer> {
  return spare.pop() ?? Buffer.allocUnsafeSlow(CHUNK_BYTES);
}

function giveBack(buffer: Buffer<ArrayBuffer>): void {
  if (spare.length < MOST_SPARE) spare.push(buffer);
}

const corrupt = (why: string): StowageError => new StowageError('stream-corrupt', why);

/**
 * Reads an extent stream chunk by chunk. `accept` may use the bytes until the promise it gives is settled, not longer;
 * at most one chunk is assembled meanwhile. Throws `digest-mismatch` for a chunk whose bytes are not those that were
 * sent, and `stream-corrupt` for frames outside the map or out of order.
 */
export async function decodeExtents(
  stream: AsyncIterable<Uint8Array>,
  map: ChunkMap,
  accept: (chunk: ReceivedChunk) => Promise<void>,
): Promise<void> {
  let assembly: Assembly | undefined;
  let pending: Promise<void> = Promise.resolve();

  /** Where the bytes of a data frame belong. */
  const room = (offset: number, length: number): Uint8Array => {
    const index = Math.floor(offset / CHUNK_BYTES);
    if (index >= map.count) throw corrupt('a frame lies beyond the end of the volume');
    if (assembly && assembly.index !== index) throw corrupt('a chunk ended without its digest');
    if (!assembly) {
      const buffer = borrow();
      assembly = { index, buffer, bytes: buffer.subarray(0, map.chunk(index).length), ranges: [] };
    }
    const { bytes, ranges } = assembly;
    const start = offset - index * CHUNK_BYTES;
    const filled = ranges.at(-1)?.end ?? 0;
    if (start < filled || start + length > bytes.length)
      throw corrupt('a frame lies outside its chunk or out of order');
    bytes.fill(0, filled, start);
    ranges.push({ start, end: start + length });
    return bytes.subarray(start, start + length);
  };

  const verify = async (chunk: Assembly, expected: Buffer): Promise<void> => {
    if ((await digestOf(chunk.bytes)).equals(expected)) return;
    throw new StowageError('digest-mismatch', `chunk ${chunk.index} arrived with other bytes than were sent`);
  };

  const finish = async (chunk: Assembly, digest: Buffer): Promise<void> => {
    chunk.bytes.fill(0, chunk.ranges.at(-1)?.end ?? 0);
    const verified = verify(chunk, digest);
    verified.catch(() => undefined);
    try {
      await accept({ index: chunk.index, digest, verified, data: chunk });
      await verified;
    } finally {
      giveBack(chunk.buffer);
    }
  };

  for await (const frame of readFrames(stream, room)) {
    if (frame.type === 'end') break;
    if (frame.type === 'data') continue;
    const index = Math.floor(frame.offset / CHUNK_BYTES);
    if (index >= map.count) throw corrupt('a frame lies beyond the end of the volume');
    if (frame.offset % CHUNK_BYTES !== 0 || frame.length !== map.chunk(index).length) {
      throw corrupt('a frame does not cover its chunk');
    }
    await pending;
    if (frame.type === 'zero') {
      if (assembly) throw corrupt('a zero frame lies inside a chunk');
      pending = accept({
        index,
        digest: zeroDigest(frame.length),
        verified: Promise.resolve(),
        data: undefined,
      });
    } else {
      const chunk = assembly;
      if (!chunk || chunk.index !== index) throw corrupt('a digest without its chunk');
      assembly = undefined;
      pending = finish(chunk, frame.payload);
    }
    pending.catch(() => undefined);
  }
  await pending;
  if (assembly) throw corrupt('the last chunk has no digest');
}
