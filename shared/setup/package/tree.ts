import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Command } from 'commander';
import { clock } from '../../util/clock.ts';
import { VERSION } from '../../version.ts';
import { manPage, type Page } from './man-page.ts';

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, '../../..');
/** Node.js, of the package stowage-node. */
export const NODE = 'usr/lib/stowage/node';

/** A package before it is one: its files, where they shall lie on the machine. */
export class Tree {
  readonly path: string;

  constructor(path: string) {
    mkdirSync(path);
    this.path = path;
  }

  /** Puts a file below the tree, with the directories above it. */
  put(path: string, content: string | Buffer, mode = 0o644): void {
    const target = join(this.path, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content, { mode });
  }

  /** Makes a directory, and gives its path on this machine. */
  directory(path: string): string {
    const target = join(this.path, path);
    mkdirSync(target, { recursive: true });
    return target;
  }

  /** Puts a command into the PATH: a script that is run by the Node.js of the packages. `before` is done first. */
  putCommand(name: string, script: string, before = ''): void {
    this.put(`usr/bin/${name}`, `#!/bin/sh\n${before}exec /${NODE} /${script} "$@"\n`, 0o755);
  }

  putManual(command: Command, page: Omit<Page, 'date' | 'source'>): void {
    const date = sourceDate().toISOString().slice(0, 10);
    const text = manPage(command, { ...page, date, source: `stowage ${VERSION}` });
    const name = command.parent ? `${command.parent.name()}-${command.name()}` : command.name();
    this.put(`usr/share/man/man${page.section}/${name}.${page.section}.gz`, gzip(text));
  }

  putDocuments(name: string, copyright: string): void {
    this.put(`usr/share/doc/${name}/copyright`, copyright);
    this.put(`usr/share/doc/${name}/CHANGELOG.md.gz`, gzip(readFileSync(join(ROOT, 'CHANGELOG.md'))));
  }
}

/** As manual pages and documents lie on a machine. */
export const gzip = (text: string | Buffer): Buffer => gzipSync(text, { level: 9 });

/** Of the last change: what is built of one commit is dated the same. SOURCE_DATE_EPOCH says otherwise. */
export function sourceDate(): Date {
  const seconds =
    process.env.SOURCE_DATE_EPOCH ||
    (existsSync(join(ROOT, '.git')) &&
      execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: ROOT, encoding: 'utf8' }));
  return new Date(seconds ? Number(seconds) * 1000 : clock.now());
}

/** A file of this directory. */
export const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8');

/** The scripts of a package that dpkg runs, from the directory of this name. */
export const scriptsIn = (name: string): Record<string, string> =>
  Object.fromEntries(['postinst', 'prerm', 'postrm'].map((each) => [each, read(`${name}/${each}`)]));
