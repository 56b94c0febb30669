import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const PARTS = ['xsave-shim.c', 'guest/init', 'guest/nfs-server', 'guest/smb-server'];

/** Runs a build script unless what it makes is there: named by a hash of its parts, in the user's cache. */
function built(
  script: string,
  parts: readonly string[],
  name: (hash: string) => string,
  made: string,
): string {
  const hash = createHash('sha256');
  for (const part of [script, ...parts]) hash.update(readFileSync(join(here, part)));
  for (const version of readdirSync('/usr/lib/uml/modules')) hash.update(version);
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stowage-test');
  mkdirSync(cache, { recursive: true });
  const target = join(cache, name(hash.digest('hex').slice(0, 16)));
  // Test files run side by side: one of them builds, the others wait.
  const build = `[ -e "$1${made}" ] || "$2" "$1"`;
  if (!existsSync(`${target}${made}`))
    execFileSync('flock', [`${cache}/lock`, 'sh', '-c', build, 'sh', target, join(here, script)], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  return target;
}

/**
 * The disk that test hosts start from, and a library that their kernel is run with. Built where it is missing, which takes
 * half a minute and a network, and kept in the user's cache; built anew when a part of it changes.
 */
export function testHostImage(): { disk: string; library: string } {
  const disk = built('build-image', PARTS, (hash) => `${hash}.img`, '');
  return { disk, library: `${disk}.shim.so` };
}

/** The directory of the kernel and the disk of a machine with ZFS; building it takes five minutes. */
export function zfsMachineImage(): { directory: string } {
  return { directory: built('build-zfs-machine', ['guest/init-machine'], (hash) => `zfs-${hash}`, '/disk') };
}

// `npm test` builds it before the tests, which have no network.
if (import.meta.main && process.getuid?.() === 0) {
  testHostImage();
  if (process.argv.includes('zfs')) zfsMachineImage();
}
