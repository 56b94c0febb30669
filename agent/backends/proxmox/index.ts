import { rmdir } from 'node:fs/promises';
import { DISK_FORMATS } from '../../../shared/conf/image-formats.ts';
import { contentDirectories } from '../../../shared/pve/content-directories.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists, makeDirectory } from '../../host/files.ts';
import { locate, mountAt } from '../../host/mounts.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { FilePool } from '../../volumes/files/file-pool.ts';
import { FILE_TRAITS } from '../../volumes/files/traits.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { proxmoxLayout } from './layout.ts';

/** Storages that Proxmox VE mounts; of the first it is only a directory. */
const FORMATS = ['dir', 'nfs', 'cifs', 'cephfs', 'glusterfs'];
/** Properties of a storage that matter here. */
const OPTIONS = ['content-dirs', 'is_mountpoint'];

/** A directory storage as Proxmox VE lays it out, on a node of it or elsewhere. Whoever mounts it, it is not us. */
export const proxmoxBackend: Backend = {
  type: 'proxmox',
  contract: CONTRACT_VERSION,
  traits: { ...FILE_TRAITS, formats: [...DISK_FORMATS], options: ['configOptions'], shared: true },

  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, ['format']);
    const { format = 'dir' } = definition.source;
    if (!FORMATS.includes(format))
      throw new StowageError('invalid-argument', `unknown pool format type ${format}`);
    for (const { name } of definition.configOptions ?? [])
      if (!OPTIONS.includes(name))
        throw new StowageError('not-supported', `a directory of Proxmox VE has no option '${name}' here`);
  },

  probe: async () => undefined,

  layoutOf: ({ configOptions }) =>
    proxmoxLayout(contentDirectories(configOptions?.find(({ name }) => name === 'content-dirs')?.value)),

  open(definition, host) {
    const path = targetOf(definition);
    const { format = 'dir' } = definition.source;
    const option = (name: string): string | undefined =>
      definition.configOptions?.find((each) => each.name === name)?.value;
    const mountPoint = format === 'dir' ? option('is_mountpoint') : path;
    const isShared = format !== 'dir' || definition.isShared === true;
    const storage = {
      path,
      local: !isShared && !locate(path).mayHang,
      knownBy: 'inode' as const,
      layout: this.layoutOf!(definition),
      build: () => makeDirectory(path, definition.target.permissions),
      async attach() {
        if (mountPoint !== undefined && !mountAt(mountPoint))
          throw new StowageError('pool-inaccessible', `nothing is mounted on ${mountPoint}`);
        if (definition.managedBy !== undefined && !(await exists(path)))
          throw new StowageError(
            'pool-inaccessible',
            `${path} is not there: Proxmox VE makes it when it activates the storage`,
          );
        return false;
      },
      detach: async () => undefined,
      remove: () => rmdir(path),
    };
    return new FilePool(storage, host);
  },
};
