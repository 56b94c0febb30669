import type { FileHandle } from 'node:fs/promises';
import { libc } from './libc.ts';

/** _IOR('f', 1, long), _IOW('f', 2, long) and FS_IMMUTABLE_FL, see ioctl_iflags(2). */
const GET_FLAGS = 0x8008_6601;
const SET_FLAGS = 0x4008_6602;
const IMMUTABLE = 0x10;

/**
 * Keeps everybody, root too, from writing to a file, renaming it and taking it away; or lets them again. Does nothing where the file
 * system has no such flag, or this process may not set it.
 */
export async function setImmutable({ fd }: FileHandle, immutable: boolean): Promise<void> {
  const flags = Buffer.alloc(8);
  if (!libc || (await libc.ioctl(fd, GET_FLAGS, flags)) < 0) return;
  const before = flags.readUInt32LE(0);
  const after = immutable ? before | IMMUTABLE : before & ~IMMUTABLE;
  if (after === before) return;
  flags.writeUInt32LE(after >>> 0, 0);
  await libc.ioctl(fd, SET_FLAGS, flags);
}
