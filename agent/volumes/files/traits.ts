import type { Traits } from '../../backends/backend.ts';

/** What every pool can do whose volumes are files in a directory. */
export const FILE_TRAITS: Traits = {
  volumes: 'file',
  formats: ['raw', 'qcow2', 'ploop', 'luks'],
  target: 'exclusive',
  shared: false,
  mayHang: false,
  features: {
    build: ['current'],
    create: ['current'],
    delete: ['current'],
    trash: ['current'],
    resize: ['current'],
    shrink: ['current'],
    clone: ['current'],
    wipe: ['current'],
    snapshot: ['current'],
    transfer: ['current'],
    repair: ['current'],
  },
};
