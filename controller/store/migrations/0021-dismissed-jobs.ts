import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';

/** Failed jobs that somebody has seen want no attention any more. */
export const dismissedJobs: Migration = {
  async up(db: Kysely<unknown>) {
    await db.schema.alterTable('jobs').addColumn('dismissed_at', 'bigint').execute();
    // Ended jobs are kept: those that want attention are found without a look at all others.
    await sql`CREATE INDEX jobs_failed ON jobs (id) WHERE state = 'failed' AND dismissed_at IS NULL`.execute(
      db,
    );
  },
};
