import type { Traits } from '../../backends/backend.ts';
import { BASE_FEATURES, MAKING_FEATURES } from '../making-features.ts';

/** What every pool can do whose volumes are files in a directory. */
export const FILE_TRAITS: Traits = {
  volumes: 'file',
  formats: ['raw', 'qcow2', 'ploop', 'luks', 'vmdk'],
  target: 'exclusive',
  shared: false,
  mayHang: false,
  features: { build: ['current'], ...MAKING_FEATURES, ...BASE_FEATURES },
};
