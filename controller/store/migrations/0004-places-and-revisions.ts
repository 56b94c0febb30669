import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/**
 * Volumes are read in the order of their places, a page at a time: an index has that order, so that no page sorts all. What a
 * host has told of a pool is kept with the pool: after a restart it need tell only what differs.
 */
export const placesAndRevisions: Migration = {
  async up(db: Kysely<unknown>) {
    const { schema } = db;
    const { text } = columnTypes(db);
    await schema
      .alterTable('volumes')
      .addColumn('host', text, (c) => c.notNull().defaultTo(''))
      .execute();
    await sql`UPDATE volumes SET host = (SELECT name FROM hosts WHERE hosts.id = volumes.host_id)`.execute(
      db,
    );
    await schema
      .createIndex('volumes_place')
      .on('volumes')
      .columns(['host', 'pool', 'name'])
      .unique()
      .execute();
    await schema.alterTable('pools').addColumn('generation', text).execute();
    await schema.alterTable('pools').addColumn('revision', 'bigint').execute();
  },
};
