import { startCommand } from '../../../shared/conf/pool-start.ts';
import { POOL_TYPES } from '../../../shared/conf/pool-types.ts';
import { type FoundSource, glusterSources } from '../../../shared/conf/sources-xml.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { run } from '../../host/run.ts';
import { refuseSourceBut, targetOf } from '../../volumes/definition.ts';
import { FilePool } from '../../volumes/files/file-pool.ts';
import { forceUnmount, mountedDirectory } from '../../volumes/files/mounted-directory.ts';
import { FILE_TRAITS } from '../../volumes/files/traits.ts';
import { type Backend, CONTRACT_VERSION } from '../backend.ts';
import { missingHelper, missingTool } from '../missing.ts';

/** Beside libvirt's formats: a directory of another host by SFTP. */
const FORMATS: readonly string[] = [...POOL_TYPES.netfs.formats, ...POOL_TYPES.netfs.ownFormats];

/** SFTP has no inode numbers, and a CIFS client may do without those of its server: each makes up its own then. */
const WITHOUT_INODES: readonly string[] = ['sshfs', 'cifs'];

async function output(tool: string, args: string[]): Promise<string> {
  try {
    const { status, stdout } = await run(tool, args, { stallMs: 10_000 });
    return status === 0 ? stdout : '';
  } catch (error) {
    if (isStowageError(error, 'tool-missing')) return '';
    throw error;
  }
}

/** A directory of a server, mounted while the pool is started: NFS, CIFS, gluster, SFTP. */
export const netfsBackend: Backend = {
  type: 'netfs',
  contract: CONTRACT_VERSION,
  traits: { ...FILE_TRAITS, shared: true, mayHang: true, options: ['mountOptions'] },

  check(definition) {
    targetOf(definition);
    refuseSourceBut(definition, ['hosts', 'dir', 'format', 'protocolVersion']);
    const { hosts, dir, format = 'auto' } = definition.source;
    if (hosts.length !== 1 || !dir)
      throw new StowageError(
        'invalid-argument',
        "a pool of type 'netfs' has one source host and one directory",
      );
    if (!FORMATS.includes(format))
      throw new StowageError('invalid-argument', `unknown pool format type ${format}`);
  },

  probe: () => missingTool('mount', 'mount'),

  lacks: () =>
    Promise.all([
      missingHelper('mount.nfs', 'nfs-common'),
      missingHelper('mount.cifs', 'cifs-utils'),
      missingHelper('mount.glusterfs', 'glusterfs-client'),
      missingHelper('sshfs', 'sshfs'),
      missingHelper('showmount', 'nfs-common'),
    ]),

  findsOn: 'server',

  async findSources(host): Promise<FoundSource[]> {
    if (host === undefined)
      throw new StowageError('invalid-argument', 'hostname must be specified for netfs sources');
    const exported = await output('showmount', ['--no-headers', '--exports', host]);
    const exports = exported.split('\n').flatMap((line): FoundSource[] => {
      const [dir] = line.trim().split(/\s+/);
      return dir?.startsWith('/') ? [{ host, dir, format: 'nfs' }] : [];
    });
    const gluster = await output('gluster', [
      '--xml',
      '--log-file=/dev/null',
      'volume',
      'info',
      'all',
      `--remote-host=${host}`,
    ]);
    return [...exports, ...(gluster === '' ? [] : glusterSources(gluster, host, 'netfs'))];
  },

  release: (definition) => forceUnmount(targetOf(definition)),

  open(definition, host) {
    const path = targetOf(definition);
    const { hosts, dir, format } = definition.source;
    const server = hosts[0]!.name;
    const storage = mountedDirectory({
      path,
      source: format === 'cifs' ? `//${server}${dir}` : `${server}:${dir}`,
      command: startCommand({ ...definition, type: 'netfs' }, 'linux'),
      permissions: definition.target.permissions,
      local: false,
      knownBy: WITHOUT_INODES.includes(format ?? 'auto') ? 'name' : 'inode',
    });
    return new FilePool(storage, host);
  },
};
