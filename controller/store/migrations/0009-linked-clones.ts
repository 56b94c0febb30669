import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** Which volume a linked clone stands on. */
export const linkedClones: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('volumes').addColumn('parent_id', text).execute();
    await db.schema.createIndex('volumes_parent').on('volumes').column('parent_id').execute();
  },
};
