import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';

/**
 * Volumes are found in the order of their sizes and ages, too; by the indexes alone where a format is asked for. What has no time has the
 * time 0: rows are compared by it.
 */
export const ordersOfVolumes: Migration = {
  async up(db: Kysely<unknown>) {
    await sql`UPDATE volumes SET modified_at = 0 WHERE modified_at IS NULL`.execute(db);
    for (const index of ['volumes_modified', 'volumes_name']) await db.schema.dropIndex(index).execute();
    for (const [index, columns] of [
      ['volumes_name', ['name', 'host', 'pool', 'format']],
      ['volumes_modified', ['modified_at', 'host', 'pool', 'name', 'format']],
      ['volumes_capacity', ['capacity_bytes', 'host', 'pool', 'name', 'format']],
      ['volumes_allocation', ['allocation_bytes', 'host', 'pool', 'name', 'format']],
    ] as const)
      await db.schema
        .createIndex(index)
        .on('volumes')
        .columns([...columns])
        .execute();
  },
};
