import { constants } from 'node:fs';
import { copyFile, type FileHandle, open } from 'node:fs/promises';
import { chunkBuffers } from '../../shared/transfer/chunk-buffers.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { isZero, openRegular, readFully, removeIfExists } from '../host/files.ts';
import { type DataRange, dataExtents } from '../host/holes.ts';
import { FileImage } from './file-image.ts';
import type { Image } from './image.ts';

/** Pieces that are read and written side by side. */
const WORKERS = 3;

export interface CopyOptions {
  /** Write every byte, holes included: what ploop images need. Default: holes and zeros stay holes. */
  dense?: boolean;
  signal?: AbortSignal;
}

/**
 * Copies a regular file to a new name, durably. Shares the blocks where the file system can (xfs, btrfs), which is
 * instant; otherwise copies data extents only. Gives how it was done. The target must not exist; after an error it does not.
 */
export async function copyFileFast(
  source: string,
  target: string,
  options: CopyOptions = {},
): Promise<'reflink' | 'copied'> {
  await using from = await openRegular(source, 'r');
  if (await reflink(from, target)) {
    await using to = await open(target, constants.O_RDWR | constants.O_NOFOLLOW);
    await to.sync();
    return 'reflink';
  }
  try {
    await copyData(from, target, options);
  } catch (error) {
    await removeIfExists(target);
    throw error;
  }
  return 'copied';
}

async function copyData(from: FileHandle, target: string, options: CopyOptions): Promise<void> {
  const { size, mode } = await from.stat();
  await using to = await FileImage.open(target, 'create');
  await to.handle.chmod(mode & 0o777);
  await to.setSize(size);
  const extents = options.dense ? [{ offset: 0, length: size }] : dataExtents(from, 0, size);
  await eachPiece(extents, options.signal, async (bytes, { offset }) => {
    await readFully(from, bytes, offset);
    if (options.dense || !isZero(bytes)) await to.write(bytes, offset);
  });
  await to.flush();
}

/** Copies an image to the beginning of a new one. Holes and zeros are left out where that reads as zeros already. */
export async function copyToNew(from: Source, to: Image, signal?: AbortSignal): Promise<void> {
  const { sizeBytes } = from;
  const extents = to.uninitialised ? [{ offset: 0, length: sizeBytes }] : from.extents(0, sizeBytes);
  await eachPiece(extents, signal, async (bytes, { offset, length }) => {
    await from.read(bytes, offset);
    if (!isZero(bytes)) await to.write(bytes, offset);
    else if (to.uninitialised) await to.zero(offset, length);
  });
}

/** Runs `work` for all pieces, some side by side, each with memory of its size. When this is over nobody uses that any more. */
async function eachPiece(
  extents: Iterable<DataRange> | AsyncIterable<DataRange>,
  signal: AbortSignal | undefined,
  work: (bytes: Buffer, piece: DataRange) => Promise<void>,
): Promise<void> {
  const pieces = cut(extents);
  const worker = async (): Promise<void> => {
    const buffer = chunkBuffers.borrow();
    try {
      for await (const piece of pieces) {
        signal?.throwIfAborted();
        await work(buffer.subarray(0, piece.length), piece);
      }
    } finally {
      chunkBuffers.giveBack(buffer);
    }
  };
  const results = await Promise.allSettled(Array.from({ length: WORKERS }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

async function reflink(from: FileHandle, target: string): Promise<boolean> {
  try {
    await copyFile(
      `/proc/self/fd/${from.fd}`,
      target,
      constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE,
    );
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    return false;
  }
}

/** The extents in pieces of at most one chunk, each given once whoever asks. */
async function* cut(
  extents: Iterable<DataRange> | AsyncIterable<DataRange>,
): AsyncGenerator<DataRange, void, undefined> {
  for await (const { offset, length } of extents) {
    for (let done = 0; done < length; done += CHUNK_BYTES)
      yield { offset: offset + done, length: Math.min(CHUNK_BYTES, length - done) };
  }
}
