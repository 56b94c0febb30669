import { execFileSync } from 'node:child_process';
import { existsSync, globSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './tree.ts';

/** The files of some directories of the project; in a checkout of git without those that git ignores. */
export function sources(names: readonly string[]): string[] {
  if (existsSync(join(ROOT, '.git')))
    return execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', ...names], {
      cwd: ROOT,
      encoding: 'utf8',
    })
      .split('\0')
      .filter((file) => file !== '' && existsSync(join(ROOT, file)));
  return names
    .flatMap((name) => [name, ...globSync(`${name}/**`, { cwd: ROOT })])
    .filter((file) => statSync(join(ROOT, file)).isFile());
}
