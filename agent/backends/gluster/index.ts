import { type FoundSource, glusterSources } from '../../../shared/conf/sources-xml.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { runOk } from '../../host/run.ts';
import { BlockPool } from '../../volumes/blocks/block-pool.ts';
import { refuseSourceBut } from '../../volumes/definition.ts';
import { MAKING_FEATURES } from '../../volumes/making-features.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingLibrary, missingTool } from '../missing.ts';
import { gfapi } from './gfapi.ts';
import { GlusterPool } from './gluster-pool.ts';

/** A directory of a gluster volume, reached by gluster's own library, without a mount. */
export const glusterBackend: Backend = {
  type: 'gluster',
  contract: CONTRACT_VERSION,
  traits: {
    volumes: 'network',
    formats: ['raw', 'qcow2', 'luks'],
    target: 'none',
    shared: true,
    mayHang: true,
    features: MAKING_FEATURES,
  },

  check(definition) {
    refuseSourceBut(definition, ['hosts', 'name', 'dir']);
    const { hosts, name, dir = '/' } = definition.source;
    if (hosts.length !== 1 || !name || name.includes('/'))
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'gluster' has one source host and the name of one volume",
      );
    if (dir.split('/').includes('..'))
      throw new StowageError('invalid-argument', `'${dir}' leads out of the gluster volume`);
  },

  probe: async () => missingLibrary(gfapi, 'libgfapi0'),

  // Its own list of volumes.
  lacks: async () => [await missingTool('gluster', 'glusterfs-client')],

  findsOn: 'server',

  async findSources(host): Promise<FoundSource[]> {
    if (host === undefined)
      throw new StowageError('invalid-argument', 'hostname must be specified for gluster sources');
    const { stdout } = await runOk('gluster', [
      '--xml',
      '--log-file=/dev/null',
      'volume',
      'info',
      'all',
      `--remote-host=${host}`,
    ]);
    return glusterSources(stdout, host, 'gluster');
  },

  open(definition, host) {
    const { hosts, name = '', dir = '/' } = definition.source;
    const [server] = hosts;
    const address = { host: server!.name, port: server!.port, volume: name };
    return new BlockPool(new GlusterPool(address, dir), host, definition.uuid);
  },
};
