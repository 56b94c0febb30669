import { loadLibrary, type NativeLibrary } from '../../host/native.ts';

/** Names of the library whose structures are as they are read here. */
const NAMES = ['libiscsi.so.7', 'libiscsi.so.8', 'libiscsi.so.9'];

function load(): NativeLibrary {
  let failure: unknown;
  for (const name of NAMES)
    try {
      return loadLibrary(name);
    } catch (error) {
      failure ??= error;
    }
  throw failure;
}

function bind() {
  const library = load();
  type Call<R> = (...args: Parameters<ReturnType<NativeLibrary['sync']>>) => R;
  const now = <R = number>(prototype: string) => library.sync(prototype) as Call<R>;
  const wait = <R = number>(prototype: string) => library.async(prototype) as Call<Promise<R>>;
  return {
    create: now<bigint | null>('void *iscsi_create_context(const char *initiator)'),
    destroy: now('int iscsi_destroy_context(void *context)'),
    setSessionType: now('int iscsi_set_session_type(void *context, int type)'),
    setTarget: now('int iscsi_set_targetname(void *context, const char *name)'),
    setDigest: now('int iscsi_set_header_digest(void *context, int digest)'),
    setTimeout: now('int iscsi_set_timeout(void *context, int seconds)'),
    setLogin: now(
      'int iscsi_set_initiator_username_pwd(void *context, const char *user, const char *password)',
    ),
    noReconnect: now('void iscsi_set_noautoreconnect(void *context, int state)'),
    error: now<string>('const char *iscsi_get_error(void *context)'),
    connect: wait('int iscsi_connect_sync(void *context, const char *portal)'),
    login: wait('int iscsi_login_sync(void *context)'),
    logout: wait('int iscsi_logout_sync(void *context)'),
    discover: wait<bigint | null>('void *iscsi_discovery_sync(void *context)'),
    freeDiscovery: now('void iscsi_free_discovery_data(void *context, void *found)'),
    reportLuns: wait<bigint | null>('void *iscsi_reportluns_sync(void *context, int type, int length)'),
    inquiry: wait<bigint | null>(
      'void *iscsi_inquiry_sync(void *context, int lun, int vital, int page, int length)',
    ),
    readCapacity: wait<bigint | null>('void *iscsi_readcapacity16_sync(void *context, int lun)'),
    read: wait<bigint | null>(
      'void *iscsi_read16_iov_sync(void *context, int lun, uint64_t block, uint32_t length, int blockBytes, int protect, int dpo, int fua, int fuaNv, int group, void *vector, int vectors)',
    ),
    write: wait<bigint | null>(
      'void *iscsi_write16_sync(void *context, int lun, uint64_t block, const void *bytes, uint32_t length, int blockBytes, int protect, int dpo, int fua, int fuaNv, int group)',
    ),
    writeSame: wait<bigint | null>(
      'void *iscsi_writesame16_sync(void *context, int lun, uint64_t block, const void *bytes, uint32_t length, uint32_t blocks, int anchor, int unmap, int protect, int group)',
    ),
    synchronise: wait<bigint | null>(
      'void *iscsi_synchronizecache16_sync(void *context, int lun, uint64_t block, uint32_t blocks, int syncNv, int immediate)',
    ),
    freeTask: now('void scsi_free_scsi_task(void *task)'),
  };
}

let bound: ReturnType<typeof bind> | undefined;

/** The calls of libiscsi that are used here. Throws `tool-missing` where the host does not have it. */
export function libiscsi(): ReturnType<typeof bind> {
  bound ??= bind();
  return bound;
}
