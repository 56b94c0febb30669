import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VERSION } from '../../version.ts';
import { type Compression, writePackage } from './deb.ts';
import { PACKAGES } from './packages.ts';
import { ROOT, sourceDate, Tree } from './tree.ts';

/** Names of machines, in the words of Debian. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** Of the packages; of what is not released yet that of its commit, too, so that apt knows the newer of two, and the release as newer than both. */
function versionOf(): string {
  if (!existsSync(join(ROOT, '.git'))) return VERSION;
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  if (git('tag', '--points-at', 'HEAD').split('\n').includes(`v${VERSION}`)) return VERSION;
  const at = sourceDate()
    .toISOString()
    .replace(/\..*|\D/g, '');
  return `${VERSION}~git${at}.${git('rev-parse', '--short', 'HEAD')}`;
}

/**
 * Makes the Debian packages of this checkout, for machines like this one, in a directory, in place of those that are there. Gives
 * their paths.
 */
export async function buildPackages(
  directory: string,
  { version = versionOf(), compression = 'xz' as Compression } = {},
): Promise<string[]> {
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined)
    throw new Error(
      `packages are made on ${Object.values(ARCHITECTURES).join(' and ')}, not on ${process.arch}`,
    );
  mkdirSync(directory, { recursive: true });
  const work = mkdtempSync(join(directory, 'build-'));
  // dpkg-deb dates what is in a package by it.
  process.env.SOURCE_DATE_EPOCH ||= String(Math.floor(sourceDate().getTime() / 1000));
  try {
    const made: string[] = [];
    for (const [index, fill] of PACKAGES.entries()) {
      const tree = new Tree(join(work, String(index)));
      const contents = await fill(tree);
      made.push(writePackage(directory, tree.path, contents, { version, architecture, compression }));
    }
    return made;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const [directory = join(ROOT, 'dist')] = process.argv.slice(2);
  for (const path of await buildPackages(resolve(directory))) console.log(path);
}
