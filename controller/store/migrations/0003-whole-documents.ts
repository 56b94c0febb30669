import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** What a host tells of its pools and volumes is kept whole; until a host tells it anew there is none. */
export const wholeDocuments: Migration = {
  async up(db: Kysely<unknown>) {
    const { schema } = db;
    const { text } = columnTypes(db);
    await schema.alterTable('pools').addColumn('definition', text).execute();
    await schema.alterTable('volumes').addColumn('details', text).execute();
  },
};
