import { constants } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { isZero, openRegular, readFully, writeFully, writeZeros } from './files.ts';
import { dataExtents } from './holes.ts';

const STEP = 1 << 20;

export interface CopyOptions {
  /** Write every byte, holes included: what ploop images need. Default: holes and zeros stay holes. */
  dense?: boolean;
  signal?: AbortSignal;
}

/**
 * Copies a regular file to a new name, durably. Shares the blocks where the file system can (xfs, btrfs), which is
 * instant; otherwise copies data extents only. Gives how it was done. The target must not exist.
 */
export async function copyFileFast(
  source: string,
  target: string,
  options: CopyOptions = {},
): Promise<'reflink' | 'copied'> {
  await using from = await openRegular(source, 'r');
  const { size, mode } = await from.stat();
  const reflinked = await copyFile(
    `/proc/self/fd/${from.fd}`,
    target,
    constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE,
  ).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') throw error;
      return false;
    },
  );
  await using to = await open(
    target,
    (reflinked ? constants.O_RDWR : constants.O_RDWR | constants.O_CREAT) | constants.O_NOFOLLOW,
    mode & 0o777,
  );
  if (reflinked) {
    await to.sync();
    return 'reflink';
  }
  await to.truncate(options.dense ? 0 : size);
  const buffer = Buffer.allocUnsafe(STEP);
  let written = 0;
  for (const extent of dataExtents(from, 0, size)) {
    if (options.dense) await writeZeros(to, written, extent.offset - written);
    for (let done = 0; done < extent.length; done += STEP) {
      options.signal?.throwIfAborted();
      const part = buffer.subarray(0, Math.min(STEP, extent.length - done));
      await readFully(from, part, extent.offset + done);
      if (options.dense || !isZero(part)) await writeFully(to, part, extent.offset + done);
    }
    written = extent.offset + extent.length;
  }
  if (options.dense) await writeZeros(to, written, size - written);
  await to.sync();
  return 'copied';
}
