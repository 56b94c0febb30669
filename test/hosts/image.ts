import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
/** What each is built by, and from. */
const HOST = ['build-image', 'guest/initrd-init', 'guest/init', 'guest/nfs-server', 'guest/smb-server'];
const SYSTEM = ['build-system'];

/**
 * A directory in the user's cache that the first of `parts` builds, given the directory and `argument`; `last` is what it has made last.
 * Built where it is missing, which needs a network, and anew when a part of it changes.
 */
function built([builder = '', ...more]: readonly string[], last: string, argument = ''): string {
  const hash = createHash('sha256');
  for (const part of [builder, ...more]) hash.update(readFileSync(join(here, part)));
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stowage-test');
  mkdirSync(cache, { recursive: true });
  const name = `${hash.digest('hex').slice(0, 16)}${argument && `-${argument}`}`;
  const target = join(cache, name);
  // Test files run side by side: one of them builds, the others wait.
  const build = '[ -e "$2/$3" ] || "$1" "$2" $4';
  if (!existsSync(join(target, last)))
    execFileSync(
      'flock',
      [`${cache}/lock`, 'sh', '-c', build, 'sh', join(here, builder), target, last, argument],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
  return target;
}

/** The directory of the kernel, initrd and disk that test hosts start from; built in three minutes, with ZFS in eight. */
export const testHostImage = (zfs = false): string => built(HOST, 'initrd', zfs ? 'zfs' : '');

/** The root of a system with systemd; built in one minute. */
export const systemRoot = (): string => join(built(SYSTEM, 'root'), 'root');

// `npm test` builds them before the tests, which have no network.
if (import.meta.main && process.getuid?.() === 0) {
  const zfs = process.argv.includes('zfs');
  testHostImage(zfs);
  if (!zfs) systemRoot();
}
