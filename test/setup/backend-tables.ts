import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Backend, Feature } from '../../agent/backends/backend.ts';
import { loadBackends } from '../../agent/backends/registry.ts';

const FOLDERS = resolve(import.meta.dirname, '../../agent/backends');
const [BEGIN, END] = ['<!-- traits -->', '<!-- /traits -->'];

const WORDS: Record<Feature, string> = {
  build: 'make the storage of the pool',
  create: 'make volumes',
  delete: 'remove them',
  trash: 'keep what is removed in a trash',
  rename: 'give them another name',
  resize: 'let them grow',
  shrink: 'make them smaller',
  clone: 'copy them in the pool',
  base: 'make bases of them',
  link: 'linked clones, which stand on a base',
  wipe: 'wipe them',
  snapshot: 'snapshots',
  transfer: 'uploads, downloads and moves, complete before they are seen',
  overwrite: 'uploads and copies over a volume in place',
  repair: 'check and repair them',
};

/** What pools of a type can do, as a table. */
function tableOf({ traits }: Backend): string {
  const rows = Object.entries(WORDS).map(
    ([feature, words]) => `| ${words} | ${traits.features[feature as Feature] ? 'yes' : 'no'} |`,
  );
  return [
    '| | |',
    '|---|---|',
    `| formats | ${traits.formats.join(', ')} |`,
    ...rows,
    `| give snapshots another id | ${traits.features.rename?.includes('snapshot') ? 'yes' : 'no'} |`,
    `| read a snapshot, also while a guest writes to the volume | ${traits.features.transfer?.includes('snapshot') ? 'yes' : 'no'} |`,
    `| linked clones of snapshots, of any volume | ${traits.features.link?.includes('snapshot') ? 'yes' : 'no'} |`,
    `| raw volumes as streams of the storage, with their snapshots | ${traits.streams?.join(', ') ?? 'no'} |`,
    `| other hosts may use the same storage | ${traits.shared ? 'yes' : 'no'} |`,
  ].join('\n');
}

// Writes the table of each backend into its README.md; with --check it says which are out of date.
const isCheck = process.argv.includes('--check');
let [looked, stale] = [0, 0];
for (const backend of (await loadBackends(undefined)).list()) {
  const path = join(FOLDERS, backend.type, 'README.md');
  if (!existsSync(path)) continue;
  looked++;
  const text = readFileSync(path, 'utf8');
  const [before, rest = ''] = text.split(BEGIN);
  const [, behind = ''] = rest.split(END);
  const now = `${before}${BEGIN}\n${tableOf(backend)}\n${END}${behind}`;
  if (now === text) continue;
  stale++;
  if (isCheck)
    console.error(
      `${path}: the table is not that of the traits; node test/setup/backend-tables.ts writes it`,
    );
  else writeFileSync(path, now);
}
if (looked === 0) throw new Error('no backend has a README.md');
if (isCheck && stale > 0) process.exitCode = 1;
