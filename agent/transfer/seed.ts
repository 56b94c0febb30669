import { chunkBuffers } from '../../shared/transfer/chunk-buffers.ts';
import { readChunk } from '../../shared/transfer/send.ts';
import type { OpenedVolume } from '../pools/operations.ts';
import type { Sink } from './sink.ts';

/** Chunks that are read and written side by side. */
const AT_ONCE = 4;

/**
 * Fills a sink with what a volume of this host holds, chunk by chunk: when a source is asked afterwards, what it has too need not travel.
 * What the sink has already stays. Of parts that the volume does not have, and behind its end, nothing is filled. Gives the number of
 * chunks that were filled.
 */
export async function seed(sink: Sink, volume: OpenedVolume, signal: AbortSignal): Promise<number> {
  const { map } = sink.digests;
  const { parts } = volume.layout;
  const sources = map.parts.map(({ name }) => volume.sources[parts.findIndex((part) => part.name === name)]);
  let filled = 0;
  const fill = async (index: number): Promise<void> => {
    const { part, offset } = map.chunk(index);
    const source = sources[part];
    if (!source || offset >= source.sizeBytes || sink.digests.has(index)) return;
    const buffer = chunkBuffers.borrow();
    try {
      const { bytes, ranges, digest } = await readChunk(sources as typeof volume.sources, map, index, buffer);
      await sink.write({
        index,
        digest: await digest,
        verified: Promise.resolve(),
        data: ranges.length > 0 ? { bytes, ranges } : undefined,
      });
      filled++;
    } finally {
      chunkBuffers.giveBack(buffer);
    }
  };
  let next = 0;
  let isOver = false;
  const work = async (): Promise<void> => {
    try {
      while (next < map.count && !isOver) {
        signal.throwIfAborted();
        await fill(next++);
      }
    } catch (error) {
      isOver = true;
      throw error;
    }
  };
  // Nothing is written any more once this is over.
  const ends = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  await sink.flush();
  return filled;
}
