import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { NodeUnits } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION, type Traits } from '../backend.ts';
import { missingTool } from '../missing.ts';
import { MbrPartitions } from './mbr-partitions.ts';
import { Partitions } from './partitions.ts';

/** Of a disk with a master boot record: its partitions have no names, and are made by others. */
const MBR_TRAITS: Traits = { ...UNIT_TRAITS, shared: false };

const isMbr = ({ source }: PoolDefinition): boolean => source.format === 'dos';

/** A disk with a partition table: its partitions are the volumes. */
export const diskBackend: Backend = {
  type: 'disk',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'block',
    formats: ['raw'],
    target: 'common',
    shared: false,
    mayHang: true,
    features: {
      build: ['current'],
      create: ['current'],
      delete: ['current'],
      trash: ['current'],
      resize: ['current'],
      shrink: ['current'],
      clone: ['current'],
      wipe: ['current'],
      transfer: ['current'],
    },
  },

  traitsOf(definition) {
    return isMbr(definition) ? MBR_TRAITS : this.traits;
  },

  check(definition) {
    refuseSourceBut(definition, ['devices', 'format']);
    const { devices, format = 'gpt' } = definition.source;
    if (devices.length !== 1 || !devices[0]!.path.startsWith('/dev/'))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'disk' has one source device, a disk in /dev",
      );
    // As libvirt writes one that nobody chose.
    if (!['gpt', 'dos', 'unknown'].includes(format))
      throw new StowageError('not-supported', `a disk has a table of format gpt or dos here, not ${format}`);
  },

  devices: {
    builds: ['disk', 'multipath', 'loop'],
    uses: ({ pttype }) => pttype === 'gpt' || pttype === 'dos',
  },

  async probe() {
    return (await missingTool('parted', 'parted')) ?? missingTool('sfdisk', 'fdisk');
  },

  open(definition, host) {
    const [device] = definition.source.devices;
    if (isMbr(definition)) return new UnitPool(new NodeUnits(new MbrPartitions(device!.path)), host);
    return new BlockPool(new Partitions(device!.path), host, definition.uuid);
  },
};
