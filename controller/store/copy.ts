import { sql } from 'kysely';
import { StowageError } from '../../shared/util/errors.ts';
import { isPostgres } from './column-types.ts';
import type { Database } from './schema.ts';
import { Store } from './store.ts';

/** In an order in which no row comes before one that it names. */
const TABLES = [
  'hosts',
  'host_labels',
  'enrolments',
  'pools',
  'volumes',
  'volume_names',
  'domains',
  'domain_uses',
  'jobs',
  'job_steps',
  'job_hosts',
  'leases',
  'lease_tokens',
  'secrets',
  'tokens',
  'users',
  'sessions',
  'invitations',
  'passkeys',
  'recovery_codes',
  'events',
  'space_history',
  'attention',
  'messages',
  'forwarding',
  'audit',
  'audit_checkpoints',
  'audit_base',
  'witnesses',
  'witnessed',
  'copies',
] as const satisfies readonly (keyof Database)[];
/** Tables whose rows the store numbers itself, and the column with the number. */
const NUMBERED = { volume_names: 'id', jobs: 'id', leases: 'id', events: 'seq' } as const;
const BATCH = 500;

/**
 * Copies everything into an empty store, all or nothing: when the numbers of rows differ, or `check` refuses the copy, nothing
 * is there. Gives the number of rows by table. Throws `store-not-empty`. Nobody must work with either store meanwhile.
 */
export async function copyStore(
  from: Store,
  to: Store,
  check: (copy: Store) => Promise<void>,
): Promise<Record<string, number>> {
  return to.db.transaction().execute(async (target) => {
    for (const table of TABLES)
      if (await target.selectFrom(table).select(sql`1`.as('one')).limit(1).executeTakeFirst())
        throw new StowageError('store-not-empty', `the store to copy to has ${table} already`);
    const counts: Record<string, number> = {};
    for (const table of TABLES) {
      let rows: object[] = [];
      const flush = async (): Promise<void> => {
        if (rows.length > 0)
          await target
            .insertInto(table)
            .values(rows as never)
            .execute();
        rows = [];
      };
      for await (const row of from.db.selectFrom(table).selectAll().stream(BATCH)) {
        rows.push(row);
        if (rows.length === BATCH) await flush();
      }
      await flush();
      const count = (db: typeof target) =>
        db
          .selectFrom(table)
          .select(({ fn }) => fn.countAll().as('count'))
          .executeTakeFirstOrThrow();
      const [theirs, ours] = [await count(from.db as typeof target), await count(target)];
      if (Number(theirs.count) !== Number(ours.count))
        throw new StowageError('io-error', `of ${theirs.count} ${table} ${ours.count} were copied`);
      counts[table] = Number(ours.count);
    }
    // Rows made from now on are numbered behind those that came.
    if (isPostgres(target as never))
      for (const [table, column] of Object.entries(NUMBERED))
        await sql`select setval(pg_get_serial_sequence(${table}, ${column}), max(${sql.ref(column)})) from ${sql.table(table)} having max(${sql.ref(column)}) is not null`.execute(
          target,
        );
    await check(new Store(target));
    return counts;
  });
}
