import { Turns } from '../util/turns.ts';
import { CHUNK_BYTES, type ChunkMap } from './chunks.ts';
import { frameHeader, MAX_PAYLOAD } from './frames.ts';
import type { Source } from './source.ts';

/** Zeros are looked for in blocks of this size. */
const BLOCK = 64 << 10;
const ZERO_BLOCK = Buffer.alloc(BLOCK);

/** One chunk as read from its source: its bytes (of use only inside the ranges, which are not zeros) and its digest. */
export interface ReadChunk {
  bytes: Buffer<ArrayBuffer>;
  ranges: { start: number; end: number }[];
  digest: Promise<Buffer>;
}

/** Non-zero ranges of `bytes[start, end)`, in blocks, appended to `ranges`. */
function findData(bytes: Buffer, start: number, end: number, ranges: ReadChunk['ranges']): void {
  for (let block = start; block < end; block += BLOCK) {
    const stop = Math.min(block + BLOCK, end);
    if (bytes.compare(ZERO_BLOCK, 0, stop - block, block, stop) === 0) continue;
    const last = ranges.at(-1);
    if (last && last.end === block) last.end = stop;
    else ranges.push({ start: block, end: stop });
  }
}

/** Reads a chunk; holes are not read and zeros are not kept as data. `buffer` must have room for the whole chunk. */
export async function readChunk(
  sources: readonly Source[],
  map: ChunkMap,
  index: number,
  buffer: Buffer<ArrayBuffer>,
): Promise<ReadChunk> {
  const chunk = map.chunk(index);
  const source = sources[chunk.part]!;
  const bytes = buffer.subarray(0, chunk.length);
  const ranges: ReadChunk['ranges'] = [];
  let filled = 0;
  for await (const extent of source.extents(chunk.offset, chunk.offset + chunk.length)) {
    const start = extent.offset - chunk.offset;
    bytes.fill(0, filled, start);
    filled = start + extent.length;
    await source.read(bytes.subarray(start, filled), extent.offset);
    findData(bytes, start, filled, ranges);
  }
  if (ranges.length === 0) return { bytes, ranges, digest: Promise.resolve(map.zeroDigest(chunk.length)) };
  bytes.fill(0, filled);
  return { bytes, ranges, digest: map.digestOf(bytes) };
}

/**
 * The frames of one read chunk, its digest last, in pieces of at most `pieceBytes` of payload. A frame comes as header
 * and payload, which is not copied.
 */
export async function* chunkFrames(
  index: number,
  chunk: ReadChunk,
  pieceBytes = MAX_PAYLOAD,
): AsyncGenerator<Buffer[]> {
  const base = index * CHUNK_BYTES;
  if (chunk.ranges.length === 0) {
    yield [frameHeader('zero', base, chunk.bytes.length)];
    return;
  }
  for (const range of chunk.ranges) {
    for (let start = range.start; start < range.end; start += pieceBytes) {
      const end = Math.min(start + pieceBytes, range.end);
      yield [frameHeader('data', base + start, end - start), chunk.bytes.subarray(start, end)];
    }
  }
  yield [frameHeader('chunk', base, chunk.bytes.length), await chunk.digest];
}

export interface EncodeOptions {
  /** Chunks to leave out. */
  skip?: (index: number) => boolean;
  /** Called with each chunk's digest, sent or zero. */
  onChunk?: (index: number, digest: Buffer) => void;
}

/** A whole volume as an extent stream. A fresh buffer for each chunk: the consumer may still be writing the last one. */
export async function* encodeExtents(
  sources: readonly Source[],
  map: ChunkMap,
  options: EncodeOptions = {},
): AsyncGenerator<Buffer> {
  const turns = new Turns();
  for (let index = 0; index < map.count; index++) {
    if (turns.due) await turns.next();
    if (options.skip?.(index)) continue;
    const chunk = await readChunk(sources, map, index, Buffer.allocUnsafeSlow(CHUNK_BYTES));
    for await (const frame of chunkFrames(index, chunk)) yield* frame;
    options.onChunk?.(index, await chunk.digest);
  }
  yield frameHeader('end', 0, 0);
}
