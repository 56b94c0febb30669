import type { FoundSource } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { checkIscsiName, portalText } from '../../volumes/blocks/iscsi-names.ts';
import { UnitPool } from '../../volumes/blocks/unit-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingLibrary } from '../missing.ts';
import { libiscsi } from './libiscsi.ts';
import { Session } from './session.ts';
import { Target } from './target.ts';

/** Who asks which targets there are. */
const DISCOVERER = 'iqn.2026-01.stowage:discovery';

/** An iSCSI target whose units are the volumes, reached by libiscsi without the kernel of this host. */
export const iscsiDirectBackend: Backend = {
  type: 'iscsi-direct',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'network',
    formats: ['raw', 'qcow2', 'luks'],
    target: 'none',
    shared: true,
    mayHang: true,
    features: { overwrite: ['current'], wipe: ['current'] },
  },

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'devices', 'initiatorIqn', 'auth']);
    if (definition.source.auth && definition.source.auth.type !== 'chap')
      throw new StowageError('invalid-argument', "a target of iSCSI is logged in to by auth type 'chap'");
    const { hosts, devices, initiatorIqn } = definition.source;
    if (hosts.length !== 1 || devices.length !== 1 || !initiatorIqn)
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'iscsi-direct' has one source host, one source device, which is the IQN of a target, and an initiator IQN",
      );
    for (const name of [devices[0]!.path, initiatorIqn]) checkIscsiName(name);
  },

  probe: async () => missingLibrary(libiscsi, 'libiscsi7'),

  findsOn: 'server',

  async findSources(host): Promise<FoundSource[]> {
    if (host === undefined)
      throw new StowageError('invalid-argument', 'hostname must be specified for iscsi-direct sources');
    const names = await Session.discover(portalText({ name: host }), DISCOVERER);
    return names.map((name) => ({ host, devices: [name] }));
  },

  open(definition, host) {
    const { hosts, devices, initiatorIqn = '' } = definition.source;
    const [server] = hosts;
    const { auth } = definition.source;
    const login = auth && (() => ({ user: auth.username, password: host.secret() }));
    const address = { portal: portalText(server!), iqn: devices[0]!.path, initiator: initiatorIqn, login };
    return new UnitPool(new Target(address), host);
  },
};
