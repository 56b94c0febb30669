import { StowageError } from '../../../shared/util/errors.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingTool } from '../missing.ts';
import { Partitions } from './partitions.ts';

/** A disk with a GPT: its partitions are the volumes. */
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

  check(definition) {
    refuseSourceBut(definition, ['devices', 'format']);
    const { devices, format = 'gpt' } = definition.source;
    if (devices.length !== 1 || !devices[0]!.path.startsWith('/dev/'))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'disk' has one source device, a disk in /dev",
      );
    // As libvirt writes one that nobody chose.
    if (format !== 'gpt' && format !== 'unknown')
      throw new StowageError(
        'not-supported',
        `a disk has a table of format gpt here, not ${format}: only there partitions have names`,
      );
  },

  devices: { builds: ['disk', 'multipath', 'loop'], uses: ({ pttype }) => pttype === 'gpt' },

  async probe() {
    return (await missingTool('parted', 'parted')) ?? missingTool('sfdisk', 'fdisk');
  },

  open(definition, host) {
    const [device] = definition.source.devices;
    return new BlockPool(new Partitions(device!.path), host, definition.uuid);
  },
};
