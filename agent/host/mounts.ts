import { readFileSync, readlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** File systems whose answers come from elsewhere, and may not come. */
const REMOTE = /^(nfs\d?|cifs|smb3|ceph|glusterfs|lustre|ocfs2|gfs2|9p|afs|fuse(\..*|blk)?)$/;
/** As many links as the kernel follows. */
const MOST_LINKS = 40;

interface Mount {
  path: string;
  type: string;
  source: string;
}

/** `\040` for a space, and so on. */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** What is mounted, in the order of mounting. The kernel tells it without asking any file system. */
function mounts(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const [type = '', source = ''] = after.split(' ');
      return { path: unescaped(before.split(' ')[4] ?? ''), type, source: unescaped(source) };
    });
}

/** What a path shows as the root of a mount, such as a device or a dataset; undefined where nothing is mounted at it. */
export function sourceMountedAt(path: string): string | undefined {
  return mounts().findLast((mount) => mount.path === path)?.source;
}

/** Where a device is mounted, as it was mounted last; undefined where it is not, as far as this mount namespace shows. */
export function mountPointOf(device: string): string | undefined {
  return mounts().findLast((mount) => mount.source === device)?.path;
}

function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // No link, or nothing at all: its own name is where it is.
    return undefined;
  }
}

/** Where a path leads to, and whether that is on a file system that may stop answering. */
export interface Location {
  /** Without links on the way, as far as no such file system had to be asked. */
  path: string;
  mayHang: boolean;
}

/** Resolves an absolute path without asking a file system that may not answer: what lies on one stays as it is written. */
export function locate(path: string): Location {
  return resolveLinks(path, remoteMounts(), linkAt);
}

/** As {@link locate}, for many paths at one moment: the mount table and each link are read once. */
export function locator(): (path: string) => Location {
  const remote = remoteMounts();
  const links = new Map<string, string | undefined>();
  const remembered = (path: string): string | undefined => {
    if (!links.has(path)) links.set(path, linkAt(path));
    return links.get(path);
  };
  // Most of many paths are in few directories.
  const directories = new Map<string, Location>();
  return (path) => {
    let directory = directories.get(dirname(path));
    if (!directory) {
      directory = resolveLinks(dirname(path), remote, remembered);
      directories.set(dirname(path), directory);
    }
    const { path: at, mayHang } = directory;
    const whole = join(at, basename(path));
    return mayHang ? { path: whole, mayHang } : resolveLinks(whole, remote, remembered);
  };
}

function remoteMounts(): ReadonlySet<string> {
  return new Set(
    mounts()
      .filter(({ type }) => REMOTE.test(type))
      .map((mount) => mount.path),
  );
}

function resolveLinks(
  path: string,
  remote: ReadonlySet<string>,
  linkAt: (path: string) => string | undefined,
): Location {
  const rest = path.split('/').filter(Boolean);
  let at = '/';
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    const next = join(at, part);
    if (remote.has(next)) return { path: join(next, ...rest), mayHang: true };
    const link = links < MOST_LINKS ? linkAt(next) : undefined;
    if (link === undefined) {
      at = next;
      continue;
    }
    links++;
    rest.unshift(...link.split('/').filter(Boolean));
    if (link.startsWith('/')) at = '/';
  }
  return { path: at, mayHang: false };
}

/** What is mounted at a path, whatever links lead to it; of several mounts the one that is seen. */
export function mountAt(path: string): Mount | undefined {
  const { path: real } = locate(path);
  return mounts().findLast((mount) => mount.path === real);
}
