import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** Which volume is a copy of which, by their ids, and as of when. */
export const copies: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema
      .createTable('copies')
      .addColumn('volume_id', text, (c) => c.primaryKey())
      .addColumn('source_id', text, (c) => c.notNull())
      .addColumn('snapshot', text)
      .addColumn('copied_at', 'bigint', (c) => c.notNull())
      .execute();
  },
};
