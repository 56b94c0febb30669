import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists } from '../../host/files.ts';
import { run } from '../../host/run.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { BASE_FEATURES, MAKING_FEATURES, STORED_SNAPSHOTS } from '../../volumes/making-features.ts';
import { type Backend, CONTRACT_VERSION, type Traits } from '../backend.ts';
import { missingModule, missingTool } from '../missing.ts';
import { report } from './lvm.ts';
import { ThinPool } from './thin-pool.ts';
import { VolumeGroup } from './volume-group.ts';

const NAME = '[A-Za-z0-9+_.][A-Za-z0-9+_.-]*';
const SOURCE = new RegExp(`^(${NAME})(?:/(${NAME}))?$`);

const TRAITS: Traits = {
  volumes: 'block',
  formats: ['raw', 'qcow2', 'luks'],
  target: 'common',
  shared: false,
  // Below it there may be iSCSI, or multipath that waits for ever for a path.
  mayHang: true,
  features: { build: ['current'], ...MAKING_FEATURES },
};
const THIN_TRAITS: Traits = {
  ...TRAITS,
  rawSnapshots: true,
  features: { ...TRAITS.features, ...BASE_FEATURES, ...STORED_SNAPSHOTS },
};

/** The group, and the thin pool in it. */
function partsOf({ source, name }: PoolDefinition): { group: string; pool?: string } {
  const [, group, pool] = SOURCE.exec(source.name ?? name) ?? [];
  if (group === undefined)
    throw new StowageError(
      'invalid-argument',
      `'${source.name ?? name}' is no name of a volume group, or GROUP/POOL of a thin pool; give the source its name`,
    );
  return { group, pool };
}

const DEVICE_MAPPER = '/sys/class/misc/device-mapper';

/**
 * A volume group of LVM, or a thin pool in one, where the source is named `GROUP/POOL`: each logical volume is a volume, and a
 * block device of the host.
 */
export const logicalBackend: Backend = {
  type: 'logical',
  contract: CONTRACT_VERSION,
  traits: TRAITS,
  traitsOf: (definition) => (partsOf(definition).pool === undefined ? TRAITS : THIN_TRAITS),

  check(definition) {
    refuseSourceBut(definition, ['name', 'devices', 'format']);
    const { format = 'lvm2', devices } = definition.source;
    if (format !== 'lvm2' && format !== 'auto')
      throw new StowageError('invalid-argument', `unknown pool format type ${format}`);
    partsOf(definition);
    for (const { path } of devices)
      if (!path.startsWith('/dev/'))
        throw new StowageError('invalid-argument', `'${path}' is not a device in /dev`);
  },

  devices: {
    builds: ['disk', 'partition', 'multipath', 'loop'],
    uses: ({ fstype }) => fstype === 'LVM2_member',
  },

  async probe() {
    const missing = await missingTool('vgs', 'lvm2');
    if (missing || (await exists(DEVICE_MAPPER))) return missing;
    await run('modprobe', ['dm_mod']).catch(() => undefined);
    return missingModule(DEVICE_MAPPER, 'device-mapper', 'dm_mod');
  },

  findsOn: 'host',

  async findSources(): Promise<FoundSource[]> {
    const groups = new Map<string, string[]>();
    for (const { vg_name: group = '', pv_name: device = '' } of await report(
      'pvs',
      ['vg_name', 'pv_name'],
      [],
    ))
      if (group !== '') groups.set(group, [...(groups.get(group) ?? []), device]);
    return [...groups].map(([name, devices]) => ({ name, devices, format: 'lvm2' }));
  },

  open(definition, host) {
    const { group, pool } = partsOf(definition);
    const devices = definition.source.devices.map(({ path }) => path);
    const storage = pool
      ? new ThinPool(group, pool, devices, host.alone)
      : new VolumeGroup(group, devices, host.alone);
    return new BlockPool(storage, host, definition.uuid);
  },
};
