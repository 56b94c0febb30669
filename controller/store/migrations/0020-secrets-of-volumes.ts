import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, isPostgres } from '../column-types.ts';

/** Which secret a volume is encrypted with: so it is known which volumes need one. */
export const secretsOfVolumes: Migration = {
  async up(db: Kysely<unknown>) {
    const { text } = columnTypes(db);
    await db.schema.alterTable('volumes').addColumn('secret_id', text).execute();
    const told = isPostgres(db)
      ? sql`details::json #>> '{encryption,secret}'`
      : sql`json_extract(details, '$.encryption.secret')`;
    await sql`UPDATE volumes SET secret_id = ${told} WHERE details LIKE '%"encryption":%'`.execute(db);
    await db.schema
      .createIndex('volumes_secret')
      .on('volumes')
      .column('secret_id')
      .where(sql.ref('secret_id'), 'is not', null)
      .execute();
  },
};
