import { StowageError } from '../util/errors.ts';
import type { PoolDocument } from './pool-xml.ts';

/** What a mount must not let through, where the system has words for it. */
const SAFE_OPTIONS = {
  linux: ['nodev', 'nosuid', 'noexec'],
  freebsd: ['nosuid', 'noexec'],
  other: [],
} as const;

/** Where mount knows a format by another name. */
const MOUNT_TYPES: Record<string, string> = { sshfs: 'fuse.sshfs' };

function mountSource({ type, source }: PoolDocument): string {
  if (type === 'fs') return source.devices[0]!.path;
  const host = source.hosts[0]!.name;
  const dir = source.dir!;
  return source.format === 'cifs' ? `//${host}${dir}` : `${host}:${dir}`;
}

function mountOptions(
  { source, mountOptions: own = [] }: PoolDocument,
  system: keyof typeof SAFE_OPTIONS,
): string[] {
  return [
    ...SAFE_OPTIONS[system],
    ...(source.format === 'glusterfs' ? ['direct-io-mode=1'] : []),
    ...(source.format === 'cifs' ? ['guest'] : []),
    ...(source.protocolVersion === undefined ? [] : [`nfsvers=${source.protocolVersion}`]),
    ...own,
  ];
}

/**
 * The command that starts a pool, as libvirt runs it: a mount for `fs` and `netfs`, the activation of its group for
 * `logical`. Throws `not-supported` for pools that no command starts.
 */
export function startCommand(pool: PoolDocument, system: keyof typeof SAFE_OPTIONS): string[] {
  const { type, source, target } = pool;
  if (type === 'logical') return ['vgchange', '-aly', source.name ?? pool.name];
  if (type !== 'fs' && type !== 'netfs')
    throw new StowageError('not-supported', `pools of type '${type}' are started by no command`);
  const options = mountOptions(pool, system);
  return [
    'mount',
    ...(options.length > 0 ? ['-o', options.join(',')] : []),
    ...(source.format === undefined || source.format === 'auto'
      ? []
      : ['-t', MOUNT_TYPES[source.format] ?? source.format]),
    mountSource(pool),
    target.path!,
  ];
}
