import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const PARTS = ['build-image', 'xsave-shim.c', 'guest/init', 'guest/nfs-server', 'guest/smb-server'];

/**
 * The disk that test hosts start from, and a library that their kernel is run with. Built where it is missing, which takes
 * half a minute and a network, and kept in the user's cache; built anew when a part of it changes.
 */
export function testHostImage(): { disk: string; library: string } {
  const hash = createHash('sha256');
  for (const part of PARTS) hash.update(readFileSync(join(here, part)));
  for (const version of readdirSync('/usr/lib/uml/modules')) hash.update(version);
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stowage-test');
  mkdirSync(cache, { recursive: true });
  const disk = join(cache, `${hash.digest('hex').slice(0, 16)}.img`);
  // Test files run side by side: one of them builds, the others wait.
  const build = `[ -e "$1" ] || "$2" "$1"`;
  if (!existsSync(disk))
    execFileSync('flock', [`${cache}/lock`, 'sh', '-c', build, 'sh', disk, join(here, 'build-image')], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  return { disk, library: `${disk}.shim.so` };
}

// `npm test` builds it before the tests, which have no network.
if (import.meta.main && process.getuid?.() === 0) testHostImage();
