import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ROOT } from './tree.ts';

const HEAD = `Copyright 2026 the Stowage authors

Stowage is licensed under the Apache License, Version 2.0; see
/usr/share/common-licenses/Apache-2.0.
`;
const LIBRARY = /^node_modules\/(?:.*\/node_modules\/)?(@[^/]+\/[^/]+|[^/@][^/]*)\//;
/** Older ones have a list of licences. */
const manifestSchema = z.object({
  name: z.string(),
  version: z.string(),
  license: z.string().optional(),
  licenses: z.array(z.object({ type: z.string() })).default([]),
});

/** The licence of a library, and the notices that it brings. Throws where it says nothing of its licence. */
function noticeOf(directory: string): string {
  const manifest = JSON.parse(readFileSync(join(ROOT, directory, 'package.json'), 'utf8'));
  const { name, version, license, licenses } = manifestSchema.parse(manifest);
  const all = license ?? licenses.map(({ type }) => type).join(', ');
  if (all === '') throw new Error(`${directory} says nothing of its licence`);
  const texts = globSync('{LICEN[CS]E,licen[cs]e,NOTICE,COPYING}*', { cwd: join(ROOT, directory) })
    .sort()
    .map((file) => readFileSync(join(ROOT, directory, file), 'utf8').trim());
  return [`${name} ${version}: ${all}`, ...texts].join('\n\n');
}

/** The text of a package's copyright file: our licence, and those of the libraries that files of `node_modules/` are of. */
export function copyright(files: readonly string[]): string {
  const libraries = new Set(files.flatMap((file) => LIBRARY.exec(file)?.[0] ?? []));
  const line = `\n${'-'.repeat(78)}\n\n`;
  return `${[HEAD, ...[...libraries].sort().map(noticeOf)].join(line)}\n`;
}
