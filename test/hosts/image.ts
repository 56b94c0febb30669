import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const PARTS = ['build-image', 'guest/initrd-init', 'guest/init', 'guest/nfs-server', 'guest/smb-server'];

/**
 * The directory of the kernel, initrd and disk that test hosts start from. Built where it is missing, which takes three minutes (with ZFS
 * eight) and a network, and kept in the user's cache; built anew when a part of it changes.
 */
export function testHostImage(zfs = false): string {
  const hash = createHash('sha256');
  for (const part of PARTS) hash.update(readFileSync(join(here, part)));
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stowage-test');
  mkdirSync(cache, { recursive: true });
  const target = join(cache, `${hash.digest('hex').slice(0, 16)}${zfs ? '-zfs' : ''}`);
  // Test files run side by side: one of them builds, the others wait. What is there last makes it whole.
  const build = '[ -e "$2/initrd" ] || "$1" "$2" $3';
  if (!existsSync(`${target}/initrd`))
    execFileSync(
      'flock',
      [`${cache}/lock`, 'sh', '-c', build, 'sh', join(here, 'build-image'), target, zfs ? 'zfs' : ''],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
  return target;
}

// `npm test` builds it before the tests, which have no network.
if (import.meta.main && process.getuid?.() === 0) testHostImage(process.argv.includes('zfs'));
