import { type BigIntStats, constants, type Stats } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  unlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Permissions } from '../../shared/conf/permissions.ts';
import { StowageError } from '../../shared/util/errors.ts';

const ZEROS = Buffer.alloc(1 << 20);

/** Fills `buffer` from `offset`; what lies beyond the end of the file reads as zeros. */
export async function readFully(file: FileHandle, buffer: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, offset + done);
    if (bytesRead === 0) {
      buffer.fill(0, done);
      return;
    }
    done += bytesRead;
  }
}

export async function writeFully(file: FileHandle, buffer: Uint8Array, offset: number): Promise<void> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesWritten } = await file.write(buffer, done, buffer.length - done, offset + done);
    done += bytesWritten;
  }
}

/** Writes real zeros, never a hole: ploop refuses images that have holes. */
export async function writeZeros(file: FileHandle, offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += ZEROS.length) {
    await writeFully(file, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)), offset + done);
  }
}

/** The names in a directory; none where there is no such directory. */
export async function entriesIfExists(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
    return [];
  });
}

export function isZero(bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length; done += ZEROS.length) {
    const part = bytes.subarray(done, done + ZEROS.length);
    if (Buffer.compare(part, ZEROS.subarray(0, part.length)) !== 0) return false;
  }
  return true;
}

/** Makes the names in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Opens an existing regular file without following a link in its last component; anything else is refused. */
export async function openRegular(path: string, mode: 'r' | 'r+'): Promise<FileHandle> {
  const flags =
    (mode === 'r' ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags);
  const stat = await file.stat();
  if (!stat.isFile()) {
    await file.close();
    throw new StowageError('path-escapes-pool', `${path} is not a regular file`);
  }
  return file;
}

/**
 * Replaces a small file so that a reader, or a machine that lost power, sees the old text or the new one:
 * temporary file, fsync, rename, fsync of the directory.
 */
export async function replaceFile(
  path: string,
  text: string,
  mode = 0o600,
  temporary = `${path}.tmp`,
): Promise<void> {
  await rm(temporary, { force: true });
  const file = await open(temporary, 'wx', mode);
  try {
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/**
 * Makes a directory and those above it. Of one that is there only permissions that are given change. One step after the
 * other: where a file system refuses a name, such as below /proc, it is asked once.
 */
export async function makeDirectory(path: string, permissions?: Permissions): Promise<void> {
  const missing: string[] = [];
  for (let at = path; !(await exists(at)); at = dirname(at)) missing.unshift(at);
  for (const at of missing)
    await mkdir(at, { mode: 0o711 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  if (permissions) await setPermissions(path, permissions);
}

/** Owner and mode of a file or directory; its owner first, for a change of owner may take bits of the mode away. */
export async function setPermissions(path: string, { mode, owner, group }: Permissions): Promise<void> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  if (owner !== undefined || group !== undefined) {
    const stat = await file.stat();
    await file.chown(owner ?? stat.uid, group ?? stat.gid);
  }
  if (mode !== undefined) await file.chmod(mode);
  await file.sync();
}

/** The text of a file; undefined where there is none. Whatever else keeps it from being read is thrown. */
export async function readIfExists(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
}

/** What a path leads to; undefined where there is nothing. Whatever else keeps it from being looked at is thrown. */
export async function statIfExists(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
}

/** What has a name itself, whatever it leads to; undefined where there is nothing. Whatever else keeps it from being looked at is thrown. */
export async function bigStatIfExists(path: string): Promise<BigIntStats | undefined> {
  return lstat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
}

/** Whether something, even a dangling link, has this name. An error other than its absence is thrown. */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return false;
    throw error;
  }
}

/** Bytes that the files below a directory take on disk (st_blocks * 512), links not followed. */
export async function allocatedBytes(path: string): Promise<number> {
  const stat = await lstat(path);
  let sum = stat.blocks * 512;
  if (!stat.isDirectory()) return sum;
  sum = 0;
  for (const entry of await readdir(path)) sum += await allocatedBytes(join(path, entry));
  return sum;
}

export async function removeIfExists(path: string): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
