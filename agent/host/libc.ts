import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The few C library calls that Node does not offer. Every user has a fallback for a host without them. */
export interface Libc {
  /** lseek(2); -1 on error. Whence: 3 SEEK_DATA, 4 SEEK_HOLE. */
  lseek(fd: number, offset: number, whence: number): number;
  /** fallocate(2); 0 on success. */
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  /** flock(2); 0 on success. */
  flock(fd: number, operation: number): number;
  /** inotify_add_watch(2); the watch, or -1. */
  inotifyAddWatch(fd: number, path: string, mask: number): number;
  /** statx(2) into a buffer of 256 bytes; 0 on success. */
  statx(directory: number, path: string, flags: number, mask: number, buffer: Uint8Array): number;
  /** ioctl(2) with a pointer to a structure, on a thread of its own; 0 on success. */
  ioctl(fd: number, request: number, argument: Uint8Array): Promise<number>;
  /** errno of the last of these calls that failed, but for ioctl. */
  errno(): number;
}

type Argument = number | string | Uint8Array;
interface NativeFunction {
  (...args: Argument[]): number;
  /** The last argument is called with an error or the result. */
  async(...args: [...Argument[], (error: unknown, result: number) => void]): void;
}

interface KoffiAddon {
  load(library: string): { func(prototype: string): NativeFunction };
  errno(): number;
}

const here = dirname(fileURLToPath(import.meta.url));

/** Where the FFI addon may lie: beside the bundled agent, or in a checkout's node_modules. */
function addonPaths(): string[] {
  const name = `koffi-linux-${process.arch}`;
  return [
    join(here, 'koffi.node'),
    join(here, `../../node_modules/@koromix/${name}/linux_${process.arch}/koffi.node`),
  ];
}

function loadLibc(): { libc?: Libc; reason?: string } {
  if (process.env.STOWAGE_NO_NATIVE) return { reason: 'switched off by STOWAGE_NO_NATIVE' };
  const path = addonPaths().find((candidate) => existsSync(candidate));
  if (!path) return { reason: 'koffi.node is not beside the agent' };
  try {
    const koffi = createRequire(import.meta.url)(path) as KoffiAddon;
    const library = koffi.load('libc.so.6');
    const ioctl = library.func('int ioctl(int fd, uint64_t request, void *argument)');
    return {
      libc: {
        lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)'),
        fallocate: library.func('int fallocate(int fd, int mode, int64_t offset, int64_t length)'),
        flock: library.func('int flock(int fd, int operation)'),
        inotifyAddWatch: library.func('int inotify_add_watch(int fd, const char *path, uint32_t mask)'),
        ioctl: (...args) =>
          new Promise((resolve, reject) =>
            ioctl.async(...args, (error, result) => (error ? reject(error) : resolve(result))),
          ),
        statx: library.func('int statx(int dirfd, const char *path, int flags, uint32_t mask, void *buffer)'),
        errno: () => koffi.errno(),
      },
    };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

const loaded = loadLibc();

/** The C library, or undefined with {@link libcMissingReason} saying why. */
export const libc: Libc | undefined = loaded.libc;
export const libcMissingReason: string | undefined = loaded.reason;
