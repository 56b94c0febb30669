import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** How much of each pool, and of all of them, was in use. */
export const spaceHistory: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema
      .createTable('space_history')
      .addColumn('place', text, (c) => c.notNull())
      .addColumn('resolution', text, (c) => c.notNull())
      .addColumn('at', 'bigint', (c) => c.notNull())
      .addColumn('capacity_bytes', 'bigint', (c) => c.notNull())
      .addColumn('allocation_bytes', 'bigint', (c) => c.notNull())
      .addColumn('peak_bytes', 'bigint', (c) => c.notNull())
      .addColumn('provisioned_bytes', 'bigint')
      .addPrimaryKeyConstraint('space_history_key', ['place', 'resolution', 'at'])
      .execute();
    await db.schema
      .createIndex('space_history_age')
      .on('space_history')
      .columns(['resolution', 'at'])
      .execute();
  },
};
