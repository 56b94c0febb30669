import { rmdir } from 'node:fs/promises';
import { makeDirectory } from '../../host/files.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { FilePool } from '../../volumes/files/file-pool.ts';
import { FILE_TRAITS } from '../../volumes/files/traits.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';

/** A directory of the host: raw and qcow2 files, ploop directories. */
export const dirBackend: Backend = {
  type: 'dir',
  contract: CONTRACT_VERSION,
  traits: FILE_TRAITS,
  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, []);
  },
  probe: async () => undefined,
  open(definition, host) {
    const path = targetOf(definition);
    const { permissions } = definition.target;
    const storage = {
      path,
      local: true,
      knownBy: 'inode' as const,
      build: () => makeDirectory(path, permissions),
      attach: async () => false,
      detach: async () => undefined,
      remove: () => rmdir(path),
    };
    return new FilePool(storage, host);
  },
};
