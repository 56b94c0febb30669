import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { parseFaults } from './faults.ts';
import { MemoryPool } from './memory-pool.ts';

/**
 * Pools in memory, as libvirt's test driver has them: for tests of whoever works with Stowage. What is in them goes with the
 * agent. Faults are asked for by options of the definition, see {@link parseFaults}.
 */
export const testBackend: Backend = {
  type: 'test',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'file',
    formats: ['raw'],
    target: 'none',
    shared: false,
    mayHang: false,
    options: ['configOptions'],
    features: {
      create: ['current'],
      delete: ['current'],
      rename: ['current', 'base'],
      resize: ['current'],
      shrink: ['current'],
      clone: ['current', 'base'],
      base: ['current'],
      link: ['base'],
      wipe: ['current'],
      transfer: ['current'],
    },
  },
  check(definition) {
    parseFaults(definition.configOptions);
  },
  probe: async () => undefined,
  open: (definition) => new MemoryPool(definition),
};
