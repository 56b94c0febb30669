import { randomFill } from 'node:crypto';
import { promisify } from 'node:util';
import { StowageError } from '../../shared/util/errors.ts';
import type { Extent, Image } from '../images/image.ts';

/** `zero` and `random` write each byte of data once; `trim` frees the blocks and lets the storage read zeros. */
export const WIPE_ALGORITHMS = ['zero', 'random', 'trim'] as const;
export type WipeAlgorithm = (typeof WIPE_ALGORITHMS)[number];

const fill = promisify(randomFill) as unknown as (buffer: Buffer) => Promise<Buffer>;

/**
 * Overwrites all data of an image in place, durably; holes, which hold nothing, stay holes. Throws `not-supported`, before
 * anything is lost, where `trim` cannot free blocks.
 */
export async function overwrite(image: Image, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void> {
  if (algorithm === 'trim') {
    if (!image.canFree?.())
      throw new StowageError('not-supported', 'this storage cannot free the blocks of a volume; use zero');
    await image.zero(0, image.sizeBytes);
    await image.flush();
    return;
  }
  signal?.throwIfAborted();
  const buffer = Buffer.alloc(1 << 20);
  // Gathered first: what is written meanwhile is data, and would be found again.
  const extents: Extent[] = [];
  for await (const extent of image.extents(0, image.sizeBytes)) extents.push(extent);
  for (const { offset, length } of extents)
    for (let done = 0; done < length; done += buffer.length) {
      signal?.throwIfAborted();
      if (algorithm === 'random') await fill(buffer);
      await image.write(buffer.subarray(0, Math.min(buffer.length, length - done)), offset + done);
    }
  await image.flush();
}
