import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** Where the trail begins whose older records are in archives; up to where each witness has seen it, and what it has signed. */
export const archivesAndWitnesses: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema
      .createTable('audit_base')
      .addColumn('seq', 'bigint', (c) => c.notNull())
      .addColumn('hash', text, (c) => c.notNull())
      .addColumn('signature', text, (c) => c.notNull())
      .addColumn('frontier', text, (c) => c.notNull())
      .execute();
    await db.schema
      .createTable('witnesses')
      .addColumn('name', text, (c) => c.primaryKey())
      .addColumn('seq', 'bigint', (c) => c.notNull())
      .addColumn('hash', text, (c) => c.notNull())
      .addColumn('frontier', text, (c) => c.notNull())
      .addColumn('at', 'bigint', (c) => c.notNull())
      .execute();
    await db.schema
      .createTable('witnessed')
      .addColumn('witness', text, (c) => c.notNull())
      .addColumn('day', 'bigint', (c) => c.notNull())
      .addColumn('note', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('witnessed_key', ['witness', 'day'])
      .execute();
  },
};
