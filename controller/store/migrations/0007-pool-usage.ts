import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** How full a pool is beyond its sizes, as JSON; until a host tells it there is none. */
export const poolUsage: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('pools').addColumn('usage', text).execute();
  },
};
