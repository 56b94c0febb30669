import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { DirPool } from './pool.ts';

/** A directory of the host: raw and qcow2 files, ploop directories. */
export const dirBackend: Backend = {
  type: 'dir',
  contract: CONTRACT_VERSION,
  capabilities: ['create', 'delete', 'resize', 'shrink', 'clone', 'wipe', 'snapshot', 'transfer'],
  volumeFormats: ['raw', 'ploop', 'qcow2'],
  probe: async () => undefined,
  open: (definition) => new DirPool(definition),
};
