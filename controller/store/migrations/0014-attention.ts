import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** What wants attention and who was told, and messages that are still to be sent. */
export const attention: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema
      .createTable('attention')
      .addColumn('id', text, (c) => c.primaryKey())
      .addColumn('item', text, (c) => c.notNull())
      .addColumn('seen_at', 'bigint', (c) => c.notNull())
      .addColumn('told', text)
      .execute();
    await db.schema
      .createTable('messages')
      .addColumn('id', text, (c) => c.primaryKey())
      .addColumn('channel', text, (c) => c.notNull())
      .addColumn('body', text, (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addColumn('number', 'integer', (c) => c.notNull())
      .addColumn('next_at', 'bigint', (c) => c.notNull())
      .addColumn('attempts', 'integer', (c) => c.notNull())
      .execute();
    await db.schema
      .createIndex('messages_order')
      .on('messages')
      .columns(['channel', 'created_at', 'number'])
      .execute();
  },
};
