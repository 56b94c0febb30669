import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

/** Failed jobs that somebody has seen want no attention any more. */
export const dismissedJobs: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema.alterTable('jobs').addColumn('dismissed_at', 'bigint').execute();
    // Ended jobs are kept: those that want attention are found without a look at all others.
    await db.schema
      .createIndex('jobs_dismissed')
      .on('jobs')
      .columns(['state', 'dismissed_at', 'id'])
      .execute();
    // It begins with the same column.
    await db.schema.dropIndex('jobs_state').execute();
  },
};
