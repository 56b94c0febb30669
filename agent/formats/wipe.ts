import { randomFill } from 'node:crypto';
import { promisify } from 'node:util';
import { StowageError } from '../../shared/util/errors.ts';
import { openRegular, writeFully } from '../host/files.ts';
import { punchHole } from '../host/holes.ts';

/** `zero` and `random` write each byte once; `trim` frees the blocks and lets the file system read zeros. */
export const WIPE_ALGORITHMS = ['zero', 'random', 'trim'] as const;
export type WipeAlgorithm = (typeof WIPE_ALGORITHMS)[number];

const fill = promisify(randomFill) as unknown as (buffer: Buffer) => Promise<Buffer>;

/** Overwrites a whole file in place, durably. Throws `not-supported` where `trim` cannot free blocks. */
export async function overwrite(path: string, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void> {
  await using file = await openRegular(path, 'r+');
  const { size } = await file.stat();
  if (algorithm === 'trim') {
    if (!punchHole(file, 0, size))
      throw new StowageError('not-supported', 'this file system cannot free the blocks of a file; use zero');
    await file.sync();
    return;
  }
  const buffer = Buffer.alloc(1 << 20);
  for (let offset = 0; offset < size; offset += buffer.length) {
    signal?.throwIfAborted();
    if (algorithm === 'random') await fill(buffer);
    await writeFully(file, buffer.subarray(0, Math.min(buffer.length, size - offset)), offset);
  }
  await file.sync();
}
