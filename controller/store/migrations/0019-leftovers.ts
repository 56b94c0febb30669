import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** What was found in a pool at the last look that is no volume of anybody, as JSON, and when that was. */
export const leftovers: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('pools').addColumn('leftovers', text).execute();
    await db.schema.alterTable('pools').addColumn('leftovers_looked_at', 'bigint').execute();
  },
};
