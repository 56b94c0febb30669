import { createHash } from 'node:crypto';
import { StowageError } from '../../../shared/util/errors.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { BASE_FEATURES, MAKING_FEATURES, STORED_SNAPSHOTS } from '../../volumes/making-features.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingLibrary } from '../missing.ts';
import { ceph } from './librbd.ts';
import { RbdPool } from './rbd-pool.ts';

/** Options of Ceph's client that a pool may set: none of them names a file to write, a program or a library. */
const OPTIONS =
  /^(keyring|(rados|client)_[a-z_]*_timeout|rbd_(cache|readahead|default|read_from_replica|skip|concurrent)[a-z_]*|ms_(type|mode|bind_ipv[46]|client_mode|connection_ready_timeout)|objecter_[a-z_]*|auth_[a-z_]*|debug_[a-z_]*)$/;
/** Without an end a request would wait for ever. */
const LONGEST_TIMEOUT_S = 300;

function refuseOption({ name, value }: { name: string; value: string }): void {
  if (!OPTIONS.test(name))
    throw new StowageError('not-supported', `the option '${name}' of Ceph's client is not set from here`);
  if (name.endsWith('_timeout') && !(Number(value) > 0 && Number(value) <= LONGEST_TIMEOUT_S))
    throw new StowageError(
      'invalid-argument',
      `${name} is a number of seconds, at most ${LONGEST_TIMEOUT_S}, not '${value.slice(0, 40)}'`,
    );
}

/** A pool of a Ceph cluster, or `POOL/NAMESPACE`: each RBD image is a volume. Worked on by librbd, as libvirt does. */
export const rbdBackend: Backend = {
  type: 'rbd',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'network',
    formats: ['raw', 'qcow2', 'luks'],
    target: 'none',
    shared: true,
    mayHang: true,
    rawSnapshots: true,
    options: ['configOptions', 'refreshAllocation'],
    features: { ...MAKING_FEATURES, ...BASE_FEATURES, ...STORED_SNAPSHOTS },
  },

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'name', 'auth']);
    if (!/^[^/@]+(\/[^/@]+)?$/.test(definition.source.name ?? ''))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'rbd' has the name of a pool of Ceph as source",
      );
    for (const option of definition.configOptions ?? []) refuseOption(option);
  },

  probe: async () => missingLibrary(ceph, 'librbd1'),

  open(definition, host) {
    const { source, configOptions = [], refreshAllocation, uuid } = definition;
    const [pool = '', namespace] = (source.name ?? '').split('/');
    const monitors = source.hosts.map(({ name, port }) => {
      const host = name.includes(':') ? `[${name}]` : name;
      return port ? `${host}:${port}` : host;
    });
    // A keyring of the host, where one is given, holds the key.
    const hasKeyring = configOptions.some(({ name }) => name === 'keyring');
    const key = source.auth && !hasKeyring ? () => host.secret() : undefined;
    const options = { pool, namespace, user: source.auth?.username, key, monitors, options: configOptions };
    const owner = createHash('sha256').update(`${host.agentId} ${uuid}`).digest('hex').slice(0, 12);
    const storage = new RbdPool(options, owner, refreshAllocation !== 'capacity');
    return new BlockPool(storage, host, uuid);
  },
};
