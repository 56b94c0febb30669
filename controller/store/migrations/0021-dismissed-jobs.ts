import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';

/** Failed jobs that somebody has seen want no attention any more. */
export const dismissedJobs: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema.alterTable('jobs').addColumn('dismissed_at', 'bigint').execute();
    // Ended jobs are kept: those that want attention are found without a look at all others. The index by state alone stays: it has
    // all jobs of a state in the order of their numbers.
    await db.schema
      .createIndex('jobs_dismissed')
      .on('jobs')
      .columns(['state', 'dismissed_at', 'id'])
      .execute();
  },
};
