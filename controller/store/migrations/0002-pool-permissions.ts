import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

export const poolPermissions: Migration = {
  async up(db: Kysely<unknown>) {
    const { schema } = db;
    const { text } = columnTypes(db);
    await schema.alterTable('pools').addColumn('target_permissions', text).execute();
  },
};
