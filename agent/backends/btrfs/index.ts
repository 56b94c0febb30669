import { nativeMissingReason } from '../../host/native.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { BASE_FEATURES, MAKING_FEATURES, STORED_SNAPSHOTS } from '../../volumes/making-features.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingTool } from '../missing.ts';
import { Subvolumes } from './subvolumes.ts';

/** A directory on btrfs, each of whose volumes is an image in a subvolume of its own: it has snapshots, and is copied at once. */
export const btrfsBackend: Backend = {
  type: 'btrfs',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'file',
    formats: ['raw', 'qcow2', 'luks'],
    target: 'exclusive',
    shared: false,
    mayHang: false,
    rawSnapshots: true,
    streams: ['btrfs'],
    features: { build: ['current'], ...MAKING_FEATURES, ...BASE_FEATURES, ...STORED_SNAPSHOTS },
  },

  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, []);
  },

  probe: async () =>
    nativeMissingReason === undefined
      ? missingTool('btrfs', 'btrfs-progs')
      : { reason: `the C library cannot be called: ${nativeMissingReason}` },

  open(definition, host) {
    const { permissions } = definition.target;
    return new BlockPool(new Subvolumes(targetOf(definition), permissions), host, definition.uuid);
  },
};
