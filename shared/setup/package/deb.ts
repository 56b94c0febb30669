import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  globSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** What a package says of itself, in the words of deb-control(5). */
export interface Contents {
  name: string;
  /** Absent: that of Stowage. */
  version?: string;
  /** Absent: that of this machine. */
  architecture?: 'all';
  depends?: readonly string[];
  recommends?: readonly string[];
  suggests?: readonly string[];
  /** One line. */
  summary: string;
  /** Lines of at most 78 characters. */
  description: string;
  /** Shell scripts that dpkg runs, by name, such as `postinst`. */
  scripts?: Readonly<Record<string, string>>;
  /** Files below /etc, which an upgrade leaves as their administrator made them. */
  conffiles?: readonly string[];
}

/** How dpkg-deb compresses what is in a package: `xz` is read by every version of dpkg, `none` is quick. */
export type Compression = 'xz' | 'none';

const MAINTAINER = 'The Stowage authors <stowage@localhost>';
const EXECUTABLE = 0o111;
/** Only Node.js itself is larger. */
const LARGE = 64 << 20;
const GLIBC = /GLIBC_2\.(\d+)/g;

/** The package of the C library that the programs and addons of a tree need, by the versions that stand in them; none where there is none. */
function neededLibc(tree: string, files: readonly string[]): string[] {
  const minors = files
    .filter((file) => file.endsWith('.node') || statSync(join(tree, file)).size > LARGE)
    .flatMap((file) =>
      [...readFileSync(join(tree, file), 'latin1').matchAll(GLIBC)].map(([, minor]) => Number(minor)),
    );
  return minors.length > 0 ? [`libc6 (>= 2.${Math.max(...minors)})`] : [];
}

/** All files of a tree: their paths, and how many bytes they have together. Everybody may read them, whatever umask they were made with. */
function prepare(tree: string): { files: string[]; bytes: number } {
  const files: string[] = [];
  let bytes = 0;
  for (const name of ['.', ...globSync('**', { cwd: tree }).sort()]) {
    const path = join(tree, name);
    const entry = lstatSync(path);
    if (entry.isSymbolicLink()) continue;
    chmodSync(path, entry.isDirectory() || entry.mode & EXECUTABLE ? 0o755 : 0o644);
    if (!entry.isFile()) continue;
    files.push(name);
    bytes += entry.size;
  }
  return { files, bytes };
}

function controlOf(contents: Contents, version: string, architecture: string, bytes: number): string {
  const lists = (['depends', 'recommends', 'suggests'] as const).flatMap((field) =>
    contents[field] ? [`${field[0]!.toUpperCase()}${field.slice(1)}: ${contents[field].join(', ')}`] : [],
  );
  return [
    `Package: ${contents.name}`,
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    `Maintainer: ${MAINTAINER}`,
    `Installed-Size: ${Math.ceil(bytes / 1024)}`,
    ...lists,
    'Section: admin',
    'Priority: optional',
    `Description: ${contents.summary}`,
    ...contents.description.split('\n').map((line) => ` ${line}`),
    '',
  ].join('\n');
}

/**
 * Makes `NAME_VERSION_ARCHITECTURE.deb` of a tree whose files lie as they shall lie on the machine, in place of any other version in the
 * directory. Gives its path.
 */
export function writePackage(
  directory: string,
  tree: string,
  contents: Contents,
  given: { version: string; architecture: string; compression: Compression },
): string {
  const { version = given.version, architecture = given.architecture } = contents;
  const { scripts = {}, conffiles = [], depends = [] } = contents;
  const { files, bytes } = prepare(tree);
  const needs = { ...contents, depends: [...depends, ...neededLibc(tree, files)] };
  // For `dpkg --verify`; of a conffile dpkg keeps its own.
  const digests = files
    .filter((file) => !conffiles.includes(`/${file}`))
    .map(
      (file) =>
        `${createHash('md5')
          .update(readFileSync(join(tree, file)))
          .digest('hex')}  ${file}\n`,
    );
  const own = join(tree, 'DEBIAN');
  mkdirSync(own, { mode: 0o755 });
  writeFileSync(join(own, 'control'), controlOf(needs, version, architecture, bytes));
  writeFileSync(join(own, 'md5sums'), digests.join(''));
  if (conffiles.length > 0) writeFileSync(join(own, 'conffiles'), `${conffiles.join('\n')}\n`);
  for (const [name, text] of Object.entries(scripts)) writeFileSync(join(own, name), text, { mode: 0o755 });
  const path = join(directory, `${contents.name}_${version}_${architecture}.deb`);
  for (const old of globSync(`${contents.name}_*.deb`, { cwd: directory })) rmSync(join(directory, old));
  const options = ['--root-owner-group', `-Z${given.compression}`];
  execFileSync('dpkg-deb', [...options, '--build', tree, path], { stdio: ['ignore', 'ignore', 'inherit'] });
  return path;
}
