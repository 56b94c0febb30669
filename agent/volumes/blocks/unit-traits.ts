import type { Traits } from '../../backends/backend.ts';

/** Of pools whose volumes are disks of the host that are made elsewhere. */
export const UNIT_TRAITS: Traits = {
  volumes: 'block',
  formats: ['raw'],
  target: 'common',
  shared: true,
  mayHang: true,
  features: { overwrite: ['current'], wipe: ['current'] },
};
