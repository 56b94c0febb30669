import { existsSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { StowageError } from '../shared/util/errors.ts';
import { AuditTrail } from './audit/trail.ts';
import { STORE_FILE } from './backup.ts';
import { copyStore } from './store/copy.ts';
import { keepStore } from './store/exclusive.ts';
import { lockData } from './store/lock.ts';
import { openStore } from './store/store.ts';

/** What it is called after it was copied to PostgreSQL. */
export const MOVED_FILE = 'stowage.db.moved';

/** Moves what a data directory has in SQLite to an empty PostgreSQL, and says what it moved. */
export async function moveStore(data: string, target: string | undefined): Promise<void> {
  const directory = resolve(data);
  if (target === undefined)
    throw new StowageError(
      'invalid-argument',
      'set STOWAGE_STORE, or `store-file` in the configuration, to the postgres:// URL to copy to',
    );
  const path = join(directory, STORE_FILE);
  if (!existsSync(path)) throw new StowageError('invalid-argument', `there is no store at ${path}`);
  const unlock = lockData(directory);
  await using stack = new AsyncDisposableStack();
  stack.defer(unlock);
  const from = await openStore(path);
  stack.defer(() => from.close().catch(() => undefined));
  stack.defer(await keepStore(target, () => undefined));
  const to = await openStore(target);
  stack.defer(() => to.close());
  const before = await new AuditTrail(from, directory).verify();
  const counts = await copyStore(from, to, async (copy) => {
    const after = await new AuditTrail(copy, directory).verify();
    if (!after.ok || after.head?.hash !== before.head?.hash)
      throw new StowageError(
        'io-error',
        `the trail is not whole in the copy: ${after.reason ?? 'it ends elsewhere'}`,
      );
  });
  // Closed, it is one file; nobody goes on from it by mistake.
  await from.close();
  renameSync(path, join(directory, MOVED_FILE));
  for (const [table, count] of Object.entries(counts)) console.log(`${String(count).padStart(9)}  ${table}`);
  console.log(
    `the trail is whole: ${before.records} records, signed up to ${before.head?.hash.slice(0, 16)}`,
  );
  console.log(`the store that was copied is ${join(directory, MOVED_FILE)} now`);
}
