import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** Which pools are one storage, and what a lease is on: a volume of a storage, whichever host names it. */
export const storages: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('pools').addColumn('storage_id', text).execute();
    await db.schema.createIndex('pools_storage').on('pools').column('storage_id').execute();
    await db.schema.alterTable('leases').addColumn('object', text).execute();
    await db.schema.createIndex('leases_object').on('leases').column('object').execute();
  },
};
