import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

/** What agents have left in a pool, as it was found at the last look, and when that was. */
export const leftovers: Migration = {
  async up(db: Kysely<unknown>) {
    const add = (name: string) => db.schema.alterTable('pools').addColumn(name, 'bigint');
    await add('leftover_count').execute();
    await add('leftover_bytes').execute();
    await add('leftovers_since').execute();
    await db.schema
      .alterTable('pools')
      .addColumn('leftovers_looked_at', 'bigint', (c) => c.notNull().defaultTo(0))
      .execute();
  },
};
