import { fstatSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { libc, systemError } from './libc.ts';

export interface DataRange {
  offset: number;
  length: number;
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
/** Reserved with one call, which nothing else of the agent runs beside. */
const RESERVE_STEP = 16 * 2 ** 30;
/** _IO(0x12, 127) */
const BLKZEROOUT = 0x127f;
const ENOSYS = 38;
const EOPNOTSUPP = 95;

/**
 * The data extents of `[from, to)` of a file, in order, by SEEK_DATA and SEEK_HOLE. Where those are not to be had
 * the whole range is one extent: correct, only slower, as readers look for zeros themselves.
 */
export function* dataExtents(file: FileHandle, from: number, to: number): Generator<DataRange> {
  if (!libc) {
    if (to > from) yield { offset: from, length: to - from };
    return;
  }
  let position = from;
  while (position < to) {
    const data = libc.lseek(file.fd, position, SEEK_DATA);
    // ENXIO: nothing but a hole up to the end, where the next hole begins at once. Anything else is no knowledge of holes:
    // what is there is read, and the reading tells what is wrong.
    if (data < 0 && libc.lseek(file.fd, position, SEEK_HOLE) !== position) {
      const { size } = fstatSync(file.fd);
      if (position < size) yield { offset: position, length: Math.min(to, size) - position };
      return;
    }
    if (data < 0 || data >= to) return;
    const hole = libc.lseek(file.fd, data, SEEK_HOLE);
    const end = hole < 0 ? to : Math.min(hole, to);
    yield { offset: data, length: end - data };
    position = end;
  }
}

/** Whether the file has a hole before its end. undefined where that cannot be told. */
export function hasHoles(file: FileHandle, size: number): boolean | undefined {
  if (!libc || size === 0) return libc ? false : undefined;
  return libc.lseek(file.fd, 0, SEEK_HOLE) < size;
}

/** Frees the blocks of a range, which then reads as zeros. False where the file system or the host cannot. */
export function punchHole(file: FileHandle, offset: number, length: number): boolean {
  return libc?.fallocate(file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) === 0;
}

/**
 * Makes a range of a block device read as zeros, by the device itself where it can. False where the host has no such call, or
 * the device refuses the range.
 */
export async function zeroDevice(device: FileHandle, offset: number, length: number): Promise<boolean> {
  if (!libc) return false;
  const range = new BigUint64Array([BigInt(offset), BigInt(length)]);
  return (await libc.ioctl(device.fd, BLKZEROOUT, new Uint8Array(range.buffer))) === 0;
}

/**
 * Reserves blocks for a whole file, so that later writes cannot run out of space. False where the host or the file system
 * cannot, and only there: what is missing is space, or anything else, is thrown.
 */
export async function preallocate(file: FileHandle, length: number): Promise<boolean> {
  if (!libc) return false;
  for (let offset = 0; offset < length; offset += RESERVE_STEP) {
    if (libc.fallocate(file.fd, 0, offset, Math.min(RESERVE_STEP, length - offset)) === 0) {
      await new Promise(setImmediate);
      continue;
    }
    const errno = libc.errno();
    if (errno === EOPNOTSUPP || errno === ENOSYS) return false;
    throw systemError(errno, 'fallocate');
  }
  return true;
}
