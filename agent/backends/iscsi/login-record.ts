import { createHash } from 'node:crypto';
import { lstat, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { entriesIfExists, exists, removeIfExists, replaceFile, syncDirectory } from '../../host/files.ts';
import { lockFile } from '../../host/lock.ts';

/** How a target is logged in to. */
export interface Login {
  user: string;
  password: string;
}

/** Where open-iscsi keeps its records of targets. */
const PLACES = ['/etc/iscsi/nodes', '/var/lib/iscsi/nodes'];
const AUTH = /^\s*node\.session\.auth\.(authmethod|username|password)\s*=/;
/** What a record can hold: a # begins a comment in it, a space ends the value. */
const FIT = /^[\x21\x22\x24-\x7e]{1,255}$/;
const keptSchema = z.record(z.string(), z.string());

/** Outside of the records, as open-iscsi takes every file among them for one: what those of a target were before a login. */
const keptAt = (place: string, iqn: string): string =>
  join(dirname(place), `.stowage-${createHash('sha256').update(iqn).digest('hex').slice(0, 16)}`);

/** The records of a target: one for each of its portals and each interface of the host. */
async function recordsIn(place: string, iqn: string): Promise<string[]> {
  const records: string[] = [];
  for (const portal of await entriesIfExists(join(place, iqn))) {
    const path = join(place, iqn, portal);
    if ((await lstat(path)).isFile()) records.push(path);
    else for (const name of await entriesIfExists(path)) records.push(join(path, name));
  }
  return records;
}

/** A record with a login in the place of the one that it has. */
function withLines(record: string, { user, password }: Login): string {
  const lines = record.split('\n').filter((line) => !AUTH.test(line));
  const end = lines.findIndex((line) => /^#\s*END RECORD/.test(line));
  return lines
    .toSpliced(
      end < 0 ? lines.length : end,
      0,
      'node.session.auth.authmethod = CHAP',
      `node.session.auth.username = ${user}`,
      `node.session.auth.password = ${password}`,
    )
    .join('\n');
}

export function checkUser(user: string | undefined): void {
  if (user === undefined || FIT.test(user)) return;
  throw new StowageError(
    'invalid-argument',
    'a name for CHAP is of up to 255 ASCII characters, without spaces and #',
  );
}

/** Holds the records of a target. Throws `volume-in-use` while another login to it works with them. */
async function hold(iqn: string): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  for (const place of PLACES)
    if (await exists(dirname(place)))
      stack.use(await lockFile(`${keptAt(place, iqn)}.lock`, `another pool is logging in to ${iqn}`));
  return stack.move();
}

/**
 * Puts the records of a target back as they were before a login that a kill has cut; where there was none nothing is written. Throws
 * `volume-in-use` while a login works with them.
 */
export async function settleRecords(iqn: string): Promise<void> {
  const isCut = await Promise.all(PLACES.map((place) => exists(keptAt(place, iqn))));
  if (!isCut.includes(true)) return;
  await using _held = await hold(iqn);
  await settle(iqn);
}

async function settle(iqn: string): Promise<void> {
  for (const place of PLACES) {
    const kept = keptAt(place, iqn);
    await removeIfExists(`${kept}.tmp`);
    if (!(await exists(kept))) continue;
    const before = keptSchema.parse(JSON.parse(await readFile(kept, 'utf8')));
    const there = new Set(await recordsIn(place, iqn));
    for (const [path, text] of Object.entries(before))
      if (there.has(path)) await replaceFile(path, text, 0o600, `${kept}.tmp`);
    await removeIfExists(kept);
    await syncDirectory(dirname(kept));
  }
}

/**
 * Runs `work` while the records of a target say how it is logged in to; afterwards they are as before, after a kill by
 * {@link settleRecords}. Only root reads them: an argument of iscsiadm would be seen by everybody on the host. Throws `secret-refused` for
 * a password that a record cannot hold.
 */
export async function withLogin<T>(iqn: string, login: Login, work: () => Promise<T>): Promise<T> {
  if (!FIT.test(login.password))
    throw new StowageError(
      'secret-refused',
      'the password for CHAP has a space, a # or a character that is not ASCII in it, or is longer than 255: open-iscsi cannot keep it',
    );
  await using _held = await hold(iqn);
  await settle(iqn);
  let found = 0;
  try {
    for (const place of PLACES) {
      const texts: Record<string, string> = {};
      for (const path of await recordsIn(place, iqn)) texts[path] = await readFile(path, 'utf8');
      const records = Object.entries(texts);
      if (records.length === 0) continue;
      found += records.length;
      const kept = keptAt(place, iqn);
      await replaceFile(kept, JSON.stringify(texts), 0o600);
      for (const [path, text] of records)
        await replaceFile(path, withLines(text, login), 0o600, `${kept}.tmp`);
    }
    if (found === 0)
      throw new StowageError('tool-failed', `open-iscsi has no record of ${iqn} in ${PLACES.join(' or ')}`);
    return await work();
  } finally {
    await settle(iqn);
  }
}
