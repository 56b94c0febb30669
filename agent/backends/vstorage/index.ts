import { StowageError } from '../../../shared/util/errors.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { FilePool } from '../../volumes/files/file-pool.ts';
import { forceUnmount, mountedDirectory } from '../../volumes/files/mounted-directory.ts';
import { FILE_TRAITS } from '../../volumes/files/traits.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingTool } from '../missing.ts';

/** A cluster of Virtuozzo Storage, mounted while the pool is started. */
export const vstorageBackend: Backend = {
  type: 'vstorage',
  contract: CONTRACT_VERSION,
  traits: { ...FILE_TRAITS, shared: true, mayHang: true },

  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, ['name']);
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(definition.source.name ?? ''))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'vstorage' has the name of a cluster as source",
      );
  },

  async probe() {
    const missing = await missingTool('vstorage-mount', 'vstorage-client', ['--help']);
    return missing && { ...missing, remedy: 'it comes with Virtuozzo' };
  },

  release: (definition) => forceUnmount(targetOf(definition)),

  open(definition, host) {
    const path = targetOf(definition);
    const { name = '' } = definition.source;
    const storage = mountedDirectory({
      path,
      source: `vstorage://${name}`,
      command: ['vstorage-mount', '-c', name, path],
      permissions: definition.target.permissions,
      local: false,
      knownBy: 'inode',
    });
    return new FilePool(storage, host);
  },
};
