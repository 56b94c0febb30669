import { getSystemErrorMap } from 'node:util';
import { type ErrorCode, StowageError } from '../../../shared/util/errors.ts';
import { errno, loadLibrary } from '../../host/native.ts';

type Argument = number | bigint | string | Uint8Array | null;

/** Which error an errno is. */
const CODES: Record<string, ErrorCode> = {
  ENOENT: 'volume-not-found',
  EEXIST: 'volume-exists',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  ENOTCONN: 'pool-inaccessible',
  ETIMEDOUT: 'pool-inaccessible',
  ECONNREFUSED: 'pool-inaccessible',
};

class GlusterError extends StowageError {
  readonly errno: number;

  constructor(call: string, number: number) {
    const [name = `errno ${number}`, text = ''] = getSystemErrorMap().get(-number) ?? [];
    super(CODES[name] ?? 'io-error', `gluster: ${call} failed: ${text || name} (${name})`);
    this.errno = number;
  }
}

/** Whether an error is one of gluster's, of a number such as ENXIO. */
export const hasErrno = (error: unknown, number: number): boolean =>
  error instanceof GlusterError && error.errno === number;

/** For a failure whose reason cannot be had. */
const EIO = 5;

/**
 * errno is told to the thread that called. `there`: on a thread of its own, and where that fails once more on this one, as it has
 * changed nothing. `here`: on this thread, for what is short and must not be done twice: gluster that hangs stops the process of the
 * pool, which is made for that. `once`: on a thread of its own, without a reason where it fails.
 */
type Way = 'there' | 'here' | 'once';

function bind() {
  const library = loadLibrary('libgfapi.so.0');
  const call = (way: Way, prototype: string) => {
    const [there, here] = [library.async(prototype), library.sync(prototype)];
    const [, pointer, name = ''] = /^\w+ (\*?)(\w+)\(/.exec(prototype) ?? [];
    const failed = (result: unknown): boolean =>
      pointer === '*' ? result === 0n || result === null : Number(result) < 0;
    return async (...args: Argument[]): Promise<number | bigint> => {
      let result = way === 'here' ? here(...args) : await there(...args);
      if (failed(result) && way === 'there') result = here(...args);
      if (failed(result)) throw new GlusterError(name.replace(/^glfs_/, ''), way === 'once' ? EIO : errno());
      return result ?? 0;
    };
  };
  return {
    create: call('here', 'void *glfs_new(const char *volume)'),
    setServer: call(
      'here',
      'int glfs_set_volfile_server(void *fs, const char *transport, const char *host, int port)',
    ),
    setLogging: call('here', 'int glfs_set_logging(void *fs, const char *file, int level)'),
    init: call('once', 'int glfs_init(void *fs)'),
    fini: call('once', 'int glfs_fini(void *fs)'),
    volumeId: call('there', 'int glfs_get_volumeid(void *fs, void *id, size_t length)'),
    statvfs: call('there', 'int glfs_statvfs(void *fs, const char *path, void *result)'),
    lstat: call('there', 'int glfs_lstat(void *fs, const char *path, void *stat)'),
    opendir: call('there', 'void *glfs_opendir(void *fs, const char *path)'),
    readdirplus: call('there', 'int glfs_readdirplus_r(void *fd, void *stat, void *entry, void *result)'),
    closedir: call('once', 'int glfs_closedir(void *fd)'),
    creat: call('here', 'void *glfs_creat(void *fs, const char *path, int flags, uint32_t mode)'),
    open: call('there', 'void *glfs_open(void *fs, const char *path, int flags)'),
    close: call('once', 'int glfs_close(void *fd)'),
    fstat: call('there', 'int glfs_fstat(void *fd, void *stat)'),
    pread: call(
      'there',
      'int64_t glfs_pread(void *fd, void *bytes, size_t count, int64_t offset, int flags, void *stat)',
    ),
    pwrite: call(
      'there',
      'int64_t glfs_pwrite(void *fd, const void *bytes, size_t count, int64_t offset, int flags, void *before, void *after)',
    ),
    ftruncate: call('there', 'int glfs_ftruncate(void *fd, int64_t length, void *before, void *after)'),
    fsync: call('there', 'int glfs_fsync(void *fd, void *before, void *after)'),
    discard: call('there', 'int glfs_discard(void *fd, int64_t offset, size_t length)'),
    lseek: call('there', 'int64_t glfs_lseek(void *fd, int64_t offset, int whence)'),
    link: call('here', 'int glfs_link(void *fs, const char *from, const char *to)'),
    unlink: call('here', 'int glfs_unlink(void *fs, const char *path)'),
    getxattr: call(
      'here',
      'int64_t glfs_lgetxattr(void *fs, const char *path, const char *name, void *value, size_t length)',
    ),
    setxattr: call(
      'here',
      'int glfs_lsetxattr(void *fs, const char *path, const char *name, const void *value, size_t length, int flags)',
    ),
    chmod: call('here', 'int glfs_chmod(void *fs, const char *path, uint32_t mode)'),
    chown: call('here', 'int glfs_chown(void *fs, const char *path, uint32_t owner, uint32_t group)'),
  };
}

let bound: ReturnType<typeof bind> | undefined;

/** The calls of gluster's own client library. Throws `tool-missing` where the host does not have it. */
export function gfapi(): ReturnType<typeof bind> {
  bound ??= bind();
  return bound;
}

/** What `struct stat` says, as glibc lays it out on 64-bit machines. */
export interface Stat {
  ino: bigint;
  mode: number;
  uid: number;
  gid: number;
  sizeBytes: number;
  allocationBytes: number;
  mtimeNs: bigint;
  isFile: boolean;
  isDirectory: boolean;
}

export const STAT_BYTES = 144;
const S_IFMT = 0o170000;

export function readStat(buffer: Buffer): Stat {
  const at = process.arch === 'x64' ? { mode: 24, uid: 28, gid: 32 } : { mode: 16, uid: 24, gid: 28 };
  const type = buffer.readUInt32LE(at.mode) & S_IFMT;
  return {
    ino: buffer.readBigUInt64LE(8),
    mode: buffer.readUInt32LE(at.mode) & 0o777,
    uid: buffer.readUInt32LE(at.uid),
    gid: buffer.readUInt32LE(at.gid),
    sizeBytes: Number(buffer.readBigInt64LE(48)),
    allocationBytes: Number(buffer.readBigInt64LE(64)) * 512,
    mtimeNs: buffer.readBigInt64LE(88) * 1_000_000_000n + buffer.readBigInt64LE(96),
    isFile: type === 0o100000,
    isDirectory: type === 0o040000,
  };
}
