import { readFileSync } from 'node:fs';

/** File systems whose answers come from elsewhere, and may not come. */
const REMOTE = /^(nfs\d?|cifs|smb3|ceph|glusterfs|lustre|ocfs2|gfs2|9p|afs|fuse(\..*|blk)?)$/;

interface Mount {
  path: string;
  type: string;
  source: string;
}

/** `\040` for a space, and so on. */
const unescaped = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

/** What is mounted, in the order of mounting. The kernel tells it without asking any file system. */
export function mounts(): Mount[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const [type = '', source = ''] = after.split(' ');
      return { path: unescaped(before.split(' ')[4] ?? ''), type, source: unescaped(source) };
    });
}

/** What is mounted at a path; of several mounts the one that is seen. */
export function mountAt(path: string): Mount | undefined {
  return mounts().findLast((mount) => mount.path === path);
}

/** Whether a path lies on a file system that may stop answering. */
export function mayHangAt(path: string): boolean {
  const holding = mounts()
    .filter((mount) => `${path}/`.startsWith(mount.path === '/' ? '/' : `${mount.path}/`))
    .reduce<Mount | undefined>(
      (best, mount) => (best && best.path.length > mount.path.length ? best : mount),
      undefined,
    );
  return holding !== undefined && REMOTE.test(holding.type);
}
