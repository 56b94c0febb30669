import type { PoolDefinition } from '../../../shared/conf/pool.ts';
import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { iscsiSessions } from '../../volumes/blocks/host-disks.ts';
import { checkIscsiName, portalText } from '../../volumes/blocks/iscsi-names.ts';
import { NodeUnits, unitsOfHost, waitForNames } from '../../volumes/blocks/node-units.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { UNIT_TRAITS } from '../../volumes/blocks/unit-traits.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingTool } from '../missing.ts';
import { discover, login, logout } from './iscsiadm.ts';
import { checkUser, settleRecords } from './login-record.ts';

function targetOf({ source }: PoolDefinition): { portal: string; iqn: string } {
  const [host] = source.hosts;
  const [device] = source.devices;
  if (!host || source.hosts.length !== 1 || !device || source.devices.length !== 1)
    throw new StowageError(
      'invalid-argument',
      "a pool of type 'iscsi' has one source host and one source device, which is the IQN of a target",
    );
  checkIscsiName(device.path);
  return { portal: portalText(host), iqn: device.path };
}

/** An iSCSI target, logged in to by the kernel of the host while the pool is started: its units are disks of the host. */
export const iscsiBackend: Backend = {
  type: 'iscsi',
  contract: CONTRACT_VERSION,
  traits: UNIT_TRAITS,

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'devices', 'auth']);
    if (definition.source.auth && definition.source.auth.type !== 'chap')
      throw new StowageError('invalid-argument', "a target of iSCSI is logged in to by auth type 'chap'");
    checkUser(definition.source.auth?.username);
    targetOf(definition);
  },

  probe: () => missingTool('iscsiadm', 'open-iscsi'),

  release: (definition) => settleRecords(targetOf(definition).iqn),

  findsOn: 'server',

  async findSources(host): Promise<FoundSource[]> {
    if (host === undefined)
      throw new StowageError('invalid-argument', 'hostname must be specified for iscsi sources');
    return (await discover(host)).map((iqn) => ({ host, devices: [iqn] }));
  },

  open(definition, host) {
    const { portal, iqn } = targetOf(definition);
    const directory = definition.target.path;
    const { auth } = definition.source;
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
        await settleRecords(iqn);
        if ((await sessionHosts()).length > 0) return;
        await login(portal, iqn, auth && { user: auth.username ?? '', password: host.secret() });
        await waitForNames(await sessionHosts(), directory);
      },
      async detach() {
        if ((await sessionHosts()).length > 0) await logout(iqn);
      },
      async units() {
        const units = await Promise.all((await sessionHosts()).map((host) => unitsOfHost(host, directory)));
        // Numbers of hosts are given anew with each session.
        return units.flat().map((unit) => ({ ...unit, uid: unit.wwid ?? `${iqn}:${unit.lun}` }));
      },
    };
    return new UnitPool(new NodeUnits(source), host);
  },
};
