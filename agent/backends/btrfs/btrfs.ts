import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { type ErrorCode, StowageError } from '../../../shared/util/errors.ts';
import { libc } from '../../host/libc.ts';
import { type RunResult, run, wordsOf } from '../../host/run.ts';

/** Every subvolume begins with this inode, and nothing else has it. */
export const FIRST_INODE = 256;
/** _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args) */
const FS_INFO = 0x8400_941f;
const FS_INFO_BYTES = 1024;
/** _IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args) */
const SUBVOLUME_INFO = 0x81f8_943c;
const SUBVOLUME_INFO_BYTES = 504;
/** BTRFS_ROOT_SUBVOL_RDONLY */
const SUBVOLUME_READ_ONLY = 1n;

/** What btrfs says, and which error that is. */
const ERRORS: readonly [RegExp, ErrorCode][] = [
  [/File exists/i, 'volume-exists'],
  [/No space left|Disk quota exceeded/i, 'no-space'],
  [/Read-only file system/i, 'io-error'],
];

/** Runs `btrfs`. Throws what it says, with the code that fits. */
export async function btrfs(...args: string[]): Promise<RunResult> {
  const result = await run('btrfs', args);
  if (result.status === 0) return result;
  const words = wordsOf(result);
  const code = ERRORS.find(([pattern]) => pattern.test(words))?.[1] ?? 'tool-failed';
  throw new StowageError(
    code,
    `btrfs ${args.slice(0, 2).join(' ')} failed with status ${result.status}: ${words}`,
  );
}

const uuid = (bytes: Buffer): string =>
  bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** What the kernel tells of the directory at a path, by one request; undefined where that is not on a btrfs. */
async function ask(path: string, request: number, bytes: number): Promise<Buffer | undefined> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const answer = Buffer.alloc(bytes);
    // Some answer a success with 1.
    const result = (await libc?.ioctl(directory.fd, request, answer)) ?? -1;
    return result >= 0 ? answer : undefined;
  } finally {
    await directory.close();
  }
}

/** The UUID of the file system that a directory is on; undefined where that is no btrfs. Throws `ENOENT`. */
export async function fileSystemOf(path: string): Promise<string | undefined> {
  const answer = await ask(path, FS_INFO, FS_INFO_BYTES);
  return answer && uuid(answer.subarray(16, 32));
}

/** A subvolume as the kernel tells of it. */
export interface Subvolume {
  /** Never changes, and no snapshot of it has it. */
  id: string;
  /** Nobody writes to it. */
  readOnly: boolean;
  /** The one that made it: of two subvolumes the later one has the higher. */
  transaction: bigint;
}

/** The subvolume that a directory is in. Throws `ENOENT`. */
export async function subvolumeAt(path: string): Promise<Subvolume> {
  const answer = await ask(path, SUBVOLUME_INFO, SUBVOLUME_INFO_BYTES);
  if (!answer)
    throw new StowageError('io-error', `${path}: the file system does not say which subvolume it is`);
  const flags = answer.readBigUInt64LE(288);
  return {
    id: uuid(answer.subarray(296, 312)),
    readOnly: (flags & SUBVOLUME_READ_ONLY) !== 0n,
    transaction: answer.readBigUInt64LE(352),
  };
}

/** The UUID of the subvolume that a directory is in. Throws `ENOENT`. */
export const subvolumeOf = async (path: string): Promise<string> => (await subvolumeAt(path)).id;
