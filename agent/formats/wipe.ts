import { randomFill } from 'node:crypto';
import { promisify } from 'node:util';
import { StowageError } from '../../shared/util/errors.ts';
import type { Image } from '../images/image.ts';

/** `zero` and `random` write each byte once; `trim` frees the blocks and lets the storage read zeros. */
export const WIPE_ALGORITHMS = ['zero', 'random', 'trim'] as const;
export type WipeAlgorithm = (typeof WIPE_ALGORITHMS)[number];

const fill = promisify(randomFill) as unknown as (buffer: Buffer) => Promise<Buffer>;

/** Overwrites a whole image in place, durably. Throws `not-supported` where `trim` cannot free blocks. */
export async function overwrite(image: Image, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void> {
  const { sizeBytes } = image;
  if (algorithm === 'trim') {
    const before = await image.allocationBytes();
    await image.zero(0, sizeBytes);
    if (before > 0 && (await image.allocationBytes()) >= before)
      throw new StowageError('not-supported', 'this storage cannot free the blocks of a volume; use zero');
    await image.flush();
    return;
  }
  const buffer = Buffer.alloc(1 << 20);
  for (let offset = 0; offset < sizeBytes; offset += buffer.length) {
    signal?.throwIfAborted();
    if (algorithm === 'random') await fill(buffer);
    await image.write(buffer.subarray(0, Math.min(buffer.length, sizeBytes - offset)), offset);
  }
  await image.flush();
}
