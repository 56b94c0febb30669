import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists } from '../../host/files.ts';
import { run } from '../../host/run.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { report } from './lvm.ts';
import { VolumeGroup } from './volume-group.ts';

/** A volume group of LVM: each logical volume is a volume, and a block device of the host. */
export const logicalBackend: Backend = {
  type: 'logical',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'block',
    formats: ['raw'],
    target: 'common',
    shared: false,
    // Below it there may be iSCSI, or multipath that waits for ever for a path.
    mayHang: true,
    features: {
      create: ['current'],
      delete: ['current'],
      resize: ['current'],
      shrink: ['current'],
      clone: ['current'],
      wipe: ['current'],
      transfer: ['current'],
    },
  },

  check(definition) {
    refuseSourceBut(definition, ['name', 'devices', 'format']);
    const { name, format = 'lvm2', devices } = definition.source;
    if (format !== 'lvm2' && format !== 'auto')
      throw new StowageError('invalid-argument', `unknown pool format type ${format}`);
    if (!/^[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$/.test(name ?? definition.name))
      throw new StowageError(
        'invalid-argument',
        `'${name ?? definition.name}' is no name of a volume group; give the source its name`,
      );
    for (const { path } of devices)
      if (!path.startsWith('/dev/'))
        throw new StowageError('invalid-argument', `'${path}' is not a device in /dev`);
  },

  async probe() {
    const { status } = await run('vgs', ['--version']).catch(() => ({ status: -1 }));
    if (status !== 0) return 'vgs: not found; install the package lvm2';
    if (await exists('/sys/class/misc/device-mapper')) return undefined;
    await run('modprobe', ['dm_mod']).catch(() => undefined);
    return (await exists('/sys/class/misc/device-mapper'))
      ? undefined
      : 'the kernel of this host has no device-mapper (dm_mod)';
  },

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
    const { name = definition.name, devices } = definition.source;
    const paths = devices.map(({ path }) => path);
    return new BlockPool(new VolumeGroup(name, paths), host, definition.uuid);
  },
};
