import { StowageError } from '../../../shared/util/errors.ts';
import { loadLibrary, type NativeLibrary } from '../../host/native.ts';

type Call = (...args: Parameters<ReturnType<NativeLibrary['async']>>) => Promise<number>;

/** What libraries of Ceph answer where C would set errno, and which error that is. */
const CODES: Record<number, ConstructorParameters<typeof StowageError>[0]> = {
  2: 'volume-not-found',
  16: 'volume-in-use',
  17: 'volume-exists',
  39: 'volume-has-snapshots',
  28: 'no-space',
  110: 'pool-inaccessible',
  122: 'no-space',
};

/** Throws what a call of Ceph's libraries answered, unless it is a success. */
export function checked(result: number, what: string): number {
  if (result >= 0) return result;
  throw new StowageError(CODES[-result] ?? 'io-error', `ceph: ${what} failed with errno ${-result}`);
}

export const isAbsent = (result: number): boolean => result === -2;
export const isTooSmall = (result: number): boolean => result === -34;

function bind() {
  const rados = loadLibrary('librados.so.2');
  const rbd = loadLibrary('librbd.so.1');
  const wait = (library: NativeLibrary, prototype: string): Call => library.async(prototype) as Call;
  const now = (library: NativeLibrary, prototype: string) =>
    library.sync(prototype) as (...args: Parameters<Call>) => number;
  return {
    create: now(
      rados,
      'int rados_create2(void *cluster, const char *name, const char *user, uint64_t flags)',
    ),
    readConf: now(rados, 'int rados_conf_read_file(uint64_t cluster, const char *path)'),
    setConf: now(rados, 'int rados_conf_set(uint64_t cluster, const char *option, const char *value)'),
    connect: wait(rados, 'int rados_connect(uint64_t cluster)'),
    shutdown: wait(rados, 'void rados_shutdown(uint64_t cluster)'),
    fsid: wait(rados, 'int rados_cluster_fsid(uint64_t cluster, void *text, size_t length)'),
    monCommand: wait(
      rados,
      'int rados_mon_command(uint64_t cluster, void *commands, size_t count, void *input, size_t inputLength, void *output, void *outputLength, void *status, void *statusLength)',
    ),
    freeBuffer: now(rados, 'void rados_buffer_free(uint64_t buffer)'),
    closePool: now(rados, 'void rados_ioctx_destroy(uint64_t io)'),
    openPool: wait(rados, 'int rados_ioctx_create(uint64_t cluster, const char *pool, void *io)'),
    setNamespace: now(rados, 'void rados_ioctx_set_namespace(uint64_t io, const char *name)'),
    poolName: now(
      rados,
      'int rados_pool_reverse_lookup(uint64_t cluster, int64_t id, void *name, size_t length)',
    ),
    execute: wait(
      rados,
      'int rados_exec(uint64_t io, const char *object, const char *class, const char *method, const void *input, size_t inputLength, void *output, size_t outputLength)',
    ),
    poolId: now(rados, 'int64_t rados_ioctx_get_id(uint64_t io)'),

    hasNamespace: wait(rbd, 'int rbd_namespace_exists(uint64_t io, const char *name, void *exists)'),
    list: wait(rbd, 'int rbd_list2(uint64_t io, void *images, void *count)'),
    freeList: now(rbd, 'void rbd_image_spec_list_cleanup(void *images, size_t count)'),
    newOptions: now(rbd, 'void rbd_image_options_create(void *options)'),
    freeOptions: now(rbd, 'void rbd_image_options_destroy(uint64_t options)'),
    createImage: wait(rbd, 'int rbd_create4(uint64_t io, const char *name, uint64_t size, uint64_t options)'),
    removeImage: wait(rbd, 'int rbd_remove(uint64_t io, const char *name)'),
    renameImage: wait(rbd, 'int rbd_rename(uint64_t io, const char *from, const char *to)'),
    open: wait(rbd, 'int rbd_open_by_id(uint64_t io, const char *id, void *image, const char *snapshot)'),
    openReadOnly: wait(
      rbd,
      'int rbd_open_by_id_read_only(uint64_t io, const char *id, void *image, const char *snapshot)',
    ),
    close: wait(rbd, 'int rbd_close(uint64_t image)'),
    stat: wait(rbd, 'int rbd_stat(uint64_t image, void *info, size_t size)'),
    features: wait(rbd, 'int rbd_get_features(uint64_t image, void *features)'),
    flags: wait(rbd, 'int rbd_get_flags(uint64_t image, void *flags)'),
    modified: wait(rbd, 'int rbd_get_modify_timestamp(uint64_t image, void *time)'),
    watchers: wait(rbd, 'int rbd_watchers_list(uint64_t image, void *watchers, void *count)'),
    freeWatchers: now(rbd, 'void rbd_watchers_list_cleanup(void *watchers, size_t count)'),
    parent: wait(rbd, 'int rbd_get_parent(uint64_t image, void *parent, void *snapshot)'),
    freeParent: now(rbd, 'void rbd_linked_image_spec_cleanup(void *parent)'),
    freeSnapshotSpec: now(rbd, 'void rbd_snap_spec_cleanup(void *snapshot)'),
    getMetadata: wait(
      rbd,
      'int rbd_metadata_get(uint64_t image, const char *key, void *value, void *length)',
    ),
    setMetadata: wait(rbd, 'int rbd_metadata_set(uint64_t image, const char *key, const char *value)'),
    resize: wait(rbd, 'int rbd_resize(uint64_t image, uint64_t size)'),
    read: wait(
      rbd,
      'int64_t rbd_read2(uint64_t image, uint64_t offset, size_t length, void *bytes, int flags)',
    ),
    write: wait(
      rbd,
      'int64_t rbd_write2(uint64_t image, uint64_t offset, size_t length, const void *bytes, int flags)',
    ),
    writeZeroes: wait(
      rbd,
      'int64_t rbd_write_zeroes(uint64_t image, uint64_t offset, size_t length, int zeroFlags, int flags)',
    ),
    flush: wait(rbd, 'int rbd_flush(uint64_t image)'),
    diff: wait(
      rbd,
      'int rbd_diff_iterate2(uint64_t image, const char *from, uint64_t offset, uint64_t length, uint8_t parent, uint8_t whole, void *callback, uint64_t argument)',
    ),
    listSnapshots: wait(rbd, 'int rbd_snap_list(uint64_t image, void *snapshots, void *count)'),
    freeSnapshots: now(rbd, 'void rbd_snap_list_end(void *snapshots)'),
    createSnapshot: wait(rbd, 'int rbd_snap_create(uint64_t image, const char *name)'),
    descendants: wait(rbd, 'int rbd_list_descendants(uint64_t image, void *images, void *count)'),
    freeDescendants: now(rbd, 'void rbd_linked_image_spec_list_cleanup(void *images, size_t count)'),
    isProtected: wait(rbd, 'int rbd_snap_is_protected(uint64_t image, const char *name, void *isProtected)'),
    protectSnapshot: wait(rbd, 'int rbd_snap_protect(uint64_t image, const char *name)'),
    unprotectSnapshot: wait(rbd, 'int rbd_snap_unprotect(uint64_t image, const char *name)'),
    cloneImage: wait(
      rbd,
      'int rbd_clone3(uint64_t fromIo, const char *from, const char *snapshot, uint64_t toIo, const char *to, uint64_t options)',
    ),
    removeSnapshot: wait(rbd, 'int rbd_snap_remove(uint64_t image, const char *name)'),
    renameSnapshot: wait(rbd, 'int rbd_snap_rename(uint64_t image, const char *name, const char *to)'),
    rollback: wait(rbd, 'int rbd_snap_rollback(uint64_t image, const char *name)'),
  };
}

let bound: ReturnType<typeof bind> | undefined;

/** The calls of Ceph's libraries that are used here. Throws `tool-missing` where the host does not have them. */
export function ceph(): ReturnType<typeof bind> {
  bound ??= bind();
  return bound;
}
