import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { run } from '../../host/run.ts';
import { iscsiSessions, scsiUnits, stablePaths } from '../../volumes/blocks/host-disks.ts';
import { NodeUnits } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { discover, login, logout } from './iscsiadm.ts';

const IQN = /^(iqn\.\d{4}-\d{2}\.[^\s/]+|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16,32})$/;

function targetOf({ source }: PoolDefinition): { portal: string; iqn: string } {
  const [host] = source.hosts;
  const [device] = source.devices;
  if (!host || source.hosts.length !== 1 || !device || source.devices.length !== 1)
    throw new StowageError(
      'invalid-argument',
      "a pool of type 'iscsi' has one source host and one source device, which is the IQN of a target",
    );
  if (!IQN.test(device.path))
    throw new StowageError('invalid-argument', `'${device.path}' is no name of iSCSI (iqn.…)`);
  const name = host.name.includes(':') ? `[${host.name}]` : host.name;
  return { portal: `${name}:${host.port ?? 3260}`, iqn: device.path };
}

/** An iSCSI target, logged in to by the kernel of the host while the pool is started: its units are disks of the host. */
export const iscsiBackend: Backend = {
  type: 'iscsi',
  contract: CONTRACT_VERSION,
  traits: UNIT_TRAITS,

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'devices']);
    targetOf(definition);
  },

  async probe() {
    const { status } = await run('iscsiadm', ['--version']).catch(() => ({ status: -1 }));
    return status === 0 ? undefined : 'iscsiadm: not found; install the package open-iscsi';
  },

  async findSources(host): Promise<FoundSource[]> {
    if (host === undefined)
      throw new StowageError('invalid-argument', 'hostname must be specified for iscsi sources');
    return (await discover(host)).map((iqn) => ({ host, devices: [iqn] }));
  },

  open(definition, host) {
    const { portal, iqn } = targetOf(definition);
    const sessionHosts = async (): Promise<string[]> =>
      (await iscsiSessions()).filter(({ target }) => target === iqn).map((session) => session.host);
    const source = {
      name: iqn,
      // A name of iSCSI is one in the world.
      async id() {
        if ((await sessionHosts()).length === 0)
          throw new StowageError('pool-inaccessible', `this host has no session with ${iqn} now`);
        return iqn;
      },
      async connect() {
        if ((await sessionHosts()).length === 0) await login(portal, iqn);
      },
      async detach() {
        if ((await sessionHosts()).length > 0) await logout(portal, iqn);
      },
      async units() {
        const paths = await stablePaths(definition.target.path ?? '/dev/disk/by-path');
        const units = (await Promise.all((await sessionHosts()).map(scsiUnits))).flat();
        return units.map(({ channel, target, lun, kernelName, wwid, sizeBytes }) => ({
          name: `unit:${channel}:${target}:${lun}`,
          uid: wwid ?? `${iqn}:${lun}`,
          path: paths.get(kernelName) ?? `/dev/${kernelName}`,
          sizeBytes,
        }));
      },
    };
    return new UnitPool(new NodeUnits(source), host);
  },
};
