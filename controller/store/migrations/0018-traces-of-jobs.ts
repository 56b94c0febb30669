import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/** The trace in which a job was asked for: whoever carries on with it goes on with its trace. */
export const tracesOfJobs: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('jobs').addColumn('traceparent', text).execute();
  },
};
