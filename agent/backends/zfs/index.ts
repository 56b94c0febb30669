import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { run } from '../../host/run.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { BASE_FEATURES, MAKING_FEATURES, STORED_SNAPSHOTS } from '../../volumes/making-features.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingModule, missingTool } from '../missing.ts';
import { zfs } from './zfs.ts';
import { Zvols } from './zvols.ts';

/** A zpool, or a dataset in one, whose zvols are the volumes: block devices of the host. */
export const zfsBackend: Backend = {
  type: 'zfs',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'block',
    formats: ['raw', 'qcow2', 'luks'],
    target: 'common',
    shared: false,
    mayHang: true,
    rawSnapshots: true,
    streams: ['zfs'],
    features: { build: ['current'], ...MAKING_FEATURES, ...BASE_FEATURES, ...STORED_SNAPSHOTS },
  },

  check(definition) {
    refuseSourceBut(definition, ['name', 'devices']);
    const { name = definition.name, devices } = definition.source;
    if (!/^[A-Za-z][A-Za-z0-9_.:-]*(\/[A-Za-z0-9][A-Za-z0-9_.:-]*)*$/.test(name))
      throw new StowageError('invalid-argument', `'${name}' is no name of a zpool or a dataset`);
    for (const { path } of devices)
      if (!path.startsWith('/'))
        throw new StowageError('invalid-argument', `'${path}' is not the path of a device`);
  },

  devices: {
    builds: ['disk', 'partition', 'multipath', 'loop'],
    uses: ({ fstype }) => fstype === 'zfs_member',
  },

  async probe() {
    const missing =
      (await missingTool('zfs', 'zfsutils-linux')) ?? (await missingModule('/dev/zfs', 'ZFS', 'zfs'));
    if (missing) return missing;
    const { status } = await run('zfs', ['list', '-H', '-o', 'name']);
    return status === 0 ? undefined : { reason: 'zfs does not work here' };
  },

  findsOn: 'host',

  async findSources(): Promise<FoundSource[]> {
    const { stdout } = await zfs('zpool', 'list', '-H', '-o', 'name');
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((name) => ({ name }));
  },

  open(definition, host) {
    const { name = definition.name, devices } = definition.source;
    const paths = devices.map(({ path }) => path);
    return new BlockPool(new Zvols(name, paths), host, definition.uuid);
  },
};
