import { StowageError } from '../util/errors.ts';
import { CHUNK_BYTES, type ChunkMap, digestOf, zeroDigest } from './chunks.ts';
import { readFrames } from './frames.ts';

/** A chunk that arrived whole and whose bytes match its digest. */
export interface ReceivedChunk {
  index: number;
  digest: Buffer;
  /** undefined when all of it is zeros. */
  data: { bytes: Buffer<ArrayBuffer>; ranges: { start: number; end: number }[] } | undefined;
}

interface Assembly {
  index: number;
  bytes: Buffer<ArrayBuffer>;
  ranges: { start: number; end: number }[];
}

/**
 * Reads an extent stream chunk by chunk. `accept` may keep the bytes until the promise it gives is settled; at most one
 * chunk is assembled meanwhile. Throws `digest-mismatch` for a chunk whose bytes are not those that were sent, and
 * `stream-corrupt` for frames outside the map.
 */
export async function decodeExtents(
  stream: AsyncIterable<Uint8Array>,
  map: ChunkMap,
  accept: (chunk: ReceivedChunk) => Promise<void>,
): Promise<void> {
  let assembly: Assembly | undefined;
  let pending: Promise<void> = Promise.resolve();
  const corrupt = (why: string): never => {
    throw new StowageError('stream-corrupt', why);
  };
  const finish = async (chunk: Assembly, expected: Buffer): Promise<void> => {
    const digest = await digestOf(chunk.bytes);
    if (!digest.equals(expected))
      throw new StowageError(
        'digest-mismatch',
        `chunk ${chunk.index} arrived with other bytes than were sent`,
      );
    await accept({ index: chunk.index, digest, data: chunk });
  };

  for await (const frame of readFrames(stream)) {
    if (frame.type === 'end') break;
    const index = Math.floor(frame.offset / CHUNK_BYTES);
    if (index >= map.count) corrupt('a frame lies beyond the end of the volume');
    if (frame.type === 'zero') {
      if (assembly) corrupt('a zero frame lies inside a chunk');
      if (frame.offset % CHUNK_BYTES !== 0 || frame.length !== map.chunk(index).length)
        corrupt('a zero frame does not cover its chunk');
      await pending;
      pending = accept({ index, digest: zeroDigest(frame.length), data: undefined });
      pending.catch(() => undefined);
      continue;
    }
    const { length } = map.chunk(index);
    const start = frame.offset - index * CHUNK_BYTES;
    if (start + frame.length > length) corrupt('a frame crosses the end of its chunk');
    if (assembly && assembly.index !== index) corrupt('a chunk ended without its digest');
    assembly ??= { index, bytes: Buffer.alloc(length), ranges: [] };
    if (frame.type === 'data') {
      frame.payload.copy(assembly.bytes, start);
      assembly.ranges.push({ start, end: start + frame.length });
      continue;
    }
    if (start !== 0 || frame.length !== length) corrupt('a digest does not cover its chunk');
    await pending;
    pending = finish(assembly, frame.payload);
    pending.catch(() => undefined);
    assembly = undefined;
  }
  await pending;
  if (assembly) corrupt('the last chunk has no digest');
}
