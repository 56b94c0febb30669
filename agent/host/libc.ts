import { getSystemErrorMap } from 'node:util';
import { errno, loadLibrary, nativeMissingReason } from './native.ts';

/** The few C library calls that Node does not offer. Every user has a fallback for a host without them. */
export interface Libc {
  /** lseek(2); -1 on error. Whence: 3 SEEK_DATA, 4 SEEK_HOLE. */
  lseek(fd: number, offset: number, whence: number): number;
  /** fallocate(2); 0 on success. */
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  /** flock(2); 0 on success. */
  flock(fd: number, operation: number): number;
  /** renameat2(2); 0 on success. */
  renameat2(fromDirectory: number, from: string, toDirectory: number, to: string, flags: number): number;
  /** inotify_add_watch(2); the watch, or -1. */
  inotifyAddWatch(fd: number, path: string, mask: number): number;
  /** statx(2) into a buffer of 256 bytes; 0 on success. */
  statx(directory: number, path: string, flags: number, mask: number, buffer: Uint8Array): number;
  /** ioctl(2) with a pointer to a structure, on a thread of its own; -1 on error. */
  ioctl(fd: number, request: number, argument: Uint8Array): Promise<number>;
  /** errno of the last of these calls that failed, but for ioctl. */
  errno(): number;
}

function loadLibc(): Libc | undefined {
  if (nativeMissingReason !== undefined) return undefined;
  const library = loadLibrary('libc.so.6');
  type Call = (...args: (number | string | Uint8Array)[]) => number;
  const sync = (prototype: string): Call => library.sync(prototype) as Call;
  return {
    lseek: sync('int64_t lseek(int fd, int64_t offset, int whence)'),
    fallocate: sync('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
    flock: sync('int flock(int fd, int operation)'),
    renameat2: sync('int renameat2(int from, const char *old, int to, const char *name, uint32_t flags)'),
    inotifyAddWatch: sync('int inotify_add_watch(int fd, const char *path, uint32_t mask)'),
    statx: sync('int statx(int dirfd, const char *path, int flags, uint32_t mask, void *buffer)'),
    ioctl: library.async('int ioctl(int fd, uint64_t request, void *argument)') as Libc['ioctl'],
    errno,
  };
}

/** The C library, or undefined with {@link libcMissingReason} saying why. */
export const libc: Libc | undefined = loadLibc();
export const libcMissingReason: string | undefined = nativeMissingReason;

/** The error of a call that failed, as Node makes them. */
export function systemError(errno: number, call: string): Error {
  const [code = `E${errno}`, message = 'unknown error'] = getSystemErrorMap().get(-errno) ?? [];
  return Object.assign(new Error(`${code}: ${message}, ${call}`), { code, errno: -errno, syscall: call });
}
