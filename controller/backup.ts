import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { clock } from '../shared/util/clock.ts';
import { StowageError } from '../shared/util/errors.ts';
import { sha256Of } from '../shared/util/files.ts';
import { VERSION } from '../shared/version.ts';
import { AuditTrail } from './audit/trail.ts';
import { keyProblems } from './lost-keys.ts';
import { copySqlite, settleSqlite } from './store/copy-sqlite.ts';
import { AUDIT_KEY, LINK_KEY, SECRETS_KEY } from './store/key-files.ts';
import { openStore } from './store/store.ts';

export const STORE_FILE = 'stowage.db';
/** What agents, secrets and the trail are checked and opened by. What is not there was never made. */
const KEYS = [AUDIT_KEY, LINK_KEY, SECRETS_KEY, 'controller-id', 'admin-token', 'tls.pem'] as const;
const MANIFEST = 'manifest.json';

const manifestSchema = z.object({
  version: z.string(),
  /** Ms since the epoch. */
  madeAt: z.number(),
  /** SHA-256 by name: of the store, and of those keys that there were. */
  files: z.partialRecord(z.enum([...KEYS, STORE_FILE]), z.string()).refine((files) => STORE_FILE in files),
  records: z.number().int(),
  head: z.string().optional(),
});
type Manifest = z.infer<typeof manifestSchema>;

function syncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** The trail of a store in a directory, which must be whole, and have its keys there. Throws `io-error`. */
async function verified(directory: string): Promise<{ records: number; head?: string }> {
  const store = await openStore(join(directory, STORE_FILE));
  try {
    const [problem] = await keyProblems(store, directory);
    if (problem !== undefined) throw new StowageError('io-error', `the copy cannot be used: ${problem}`);
    const verdict = await new AuditTrail(store, directory).verify();
    if (!verdict.ok)
      throw new StowageError('io-error', `the trail of the copy is not whole: ${verdict.reason}`);
    return { records: verdict.records, head: verdict.head?.hash };
  } finally {
    await store.close();
    settleSqlite(join(directory, STORE_FILE));
  }
}

/** Removes what processes of this machine have begun and are not there to finish. */
function removeAbandoned(directory: string, begin: string): void {
  for (const name of readdirSync(directory)) {
    const pid = name.startsWith(begin) ? Number(name.slice(begin.length)) : Number.NaN;
    if (!Number.isSafeInteger(pid) || (pid !== process.pid && isRunning(pid))) continue;
    rmSync(join(directory, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** An empty directory of that name gives way. Throws `file-exists` where somebody else was faster. */
function giveName(unfinished: string, path: string): void {
  try {
    renameSync(unfinished, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
    throw new StowageError('file-exists', `${path} was made by somebody else meanwhile`);
  }
}

/** Gives a directory its name when it is whole and durable: a kill leaves it without one. Throws `file-exists`. */
async function makeDirectory(path: string, fill: (unfinished: string) => Promise<void>): Promise<void> {
  if (existsSync(path) && readdirSync(path).length > 0)
    throw new StowageError('file-exists', `${path} is not empty`);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const begin = `.${basename(path)}.unfinished-${hostname()}-`;
  removeAbandoned(dirname(path), begin);
  const unfinished = join(dirname(path), `${begin}${process.pid}`);
  mkdirSync(unfinished, { mode: 0o700 });
  try {
    await fill(unfinished);
    for (const name of readdirSync(unfinished)) syncPath(join(unfinished, name));
    syncPath(unfinished);
    giveName(unfinished, path);
    syncPath(dirname(path));
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Copies the store and the keys of a data directory into a new directory, while a controller works with them or not, and checks the trail
 * of the copy. Whoever has it can be the controller: it is for its owner only. Throws `invalid-argument` where there is no store, `file-exists`,
 * `io-error`.
 */
export async function backup(data: string, path: string): Promise<Manifest> {
  if (!existsSync(join(data, STORE_FILE)))
    throw new StowageError(
      'invalid-argument',
      `there is no store at ${join(data, STORE_FILE)}; one in PostgreSQL is saved by pg_dump, and the keys in ${data} beside it`,
    );
  let manifest: Manifest | undefined;
  await makeDirectory(path, async (unfinished) => {
    // The keys first: what the store holds is signed and sealed by those.
    const names = KEYS.filter((name) => existsSync(join(data, name)));
    for (const name of names) copyFileSync(join(data, name), join(unfinished, name));
    copySqlite(join(data, STORE_FILE), join(unfinished, STORE_FILE));
    const trail = await verified(unfinished);
    const files: Manifest['files'] = {};
    for (const name of [...names, STORE_FILE] as const) files[name] = await sha256Of(join(unfinished, name));
    manifest = { version: VERSION, madeAt: clock.now(), files, ...trail };
    writeFileSync(join(unfinished, MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`, { mode: 0o600 });
  });
  return manifest!;
}

/**
 * Makes a data directory of a backup, after all of it was checked. Throws `invalid-argument` for what is no backup, `file-exists` where there
 * is something already, `io-error` for a backup that is not whole.
 */
export async function restore(path: string, data: string): Promise<Manifest> {
  const manifest = readManifest(path);
  for (const [name, digest] of Object.entries(manifest.files))
    if (!existsSync(join(path, name)) || (await sha256Of(join(path, name))) !== digest)
      throw new StowageError('io-error', `${join(path, name)} is not as it was when the backup was made`);
  await makeDirectory(data, async (unfinished) => {
    for (const name of Object.keys(manifest.files)) copyFileSync(join(path, name), join(unfinished, name));
    const { records, head } = await verified(unfinished);
    if (records !== manifest.records || head !== manifest.head)
      throw new StowageError('io-error', 'the trail of the copy ends elsewhere than that of the backup');
  });
  return manifest;
}

function readManifest(path: string): Manifest {
  try {
    return manifestSchema.parse(JSON.parse(readFileSync(join(path, MANIFEST), 'utf8')));
  } catch (error) {
    throw new StowageError(
      'invalid-argument',
      `${path} is no backup: ${(error as Error).message.slice(0, 200)}`,
    );
  }
}
