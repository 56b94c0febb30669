import { createHash } from 'node:crypto';
import { StowageError } from '../../../shared/util/errors.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { ceph } from './librbd.ts';
import { RbdPool } from './rbd-pool.ts';

/** Options that make the client write files, or run what lies in one. */
const DANGEROUS =
  /^(log|mon_cluster_log|err_to|admin_socket|run|crash|plugin|lockdep|daemonize)|plugins?$|_(lib|dir|file|path)$|_timeout$/;

/** A pool of a Ceph cluster, or `POOL/NAMESPACE`: each RBD image is a volume. Worked on by librbd, as libvirt does. */
export const rbdBackend: Backend = {
  type: 'rbd',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'network',
    formats: ['raw', 'qcow2'],
    target: 'none',
    shared: true,
    mayHang: true,
    rawSnapshots: true,
    options: ['configOptions', 'refreshAllocation'],
    features: {
      create: ['current'],
      delete: ['current'],
      resize: ['current'],
      shrink: ['current'],
      clone: ['current'],
      wipe: ['current'],
      snapshot: ['current'],
      transfer: ['current'],
      repair: ['current'],
    },
  },

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'name', 'auth']);
    if (!/^[^/@]+(\/[^/@]+)?$/.test(definition.source.name ?? ''))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'rbd' has the name of a pool of Ceph as source",
      );
    for (const { name } of definition.configOptions ?? [])
      if (!/^[a-z][a-z0-9_]*$/.test(name) || (DANGEROUS.test(name) && !name.startsWith('rados_')))
        throw new StowageError('not-supported', `the option '${name}' of Ceph's client is not set from here`);
  },

  async probe() {
    try {
      ceph();
      return undefined;
    } catch (error) {
      return `${error instanceof Error ? error.message : error}; install the package librbd1`;
    }
  },

  open(definition, host) {
    const { source, configOptions = [], refreshAllocation, uuid } = definition;
    const [pool = '', namespace] = (source.name ?? '').split('/');
    const monitors = source.hosts.map(({ name, port }) => {
      const host = name.includes(':') ? `[${name}]` : name;
      return port ? `${host}:${port}` : host;
    });
    const options = { pool, namespace, user: source.auth?.username, monitors, options: configOptions };
    const owner = createHash('sha256').update(`${host.agentId} ${uuid}`).digest('hex').slice(0, 12);
    const storage = new RbdPool(options, owner, refreshAllocation !== 'capacity');
    return new BlockPool(storage, host, uuid);
  },
};
