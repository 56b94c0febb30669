import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, isPostgres } from '../column-types.ts';
import { indexPartsOfNames } from '../name-parts.ts';

/**
 * Domains are kept with what they use; hosts have labels. Volumes are found by format, name, part of a name and age; each
 * pool knows how many it has.
 */
export const domainsAndSearch: Migration = {
  async up(db: Kysely<unknown>) {
    const { schema } = db;
    const { text, id } = columnTypes(db);
    await schema.alterTable('hosts').addColumn('domains_known', text).execute();
    await schema
      .alterTable('hosts')
      .addColumn('labels', text, (c) => c.notNull().defaultTo('[]'))
      .execute();
    await schema
      .createTable('host_labels')
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('host', text, (c) => c.notNull())
      .addColumn('label', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('host_labels_key', ['host_id', 'label'])
      .execute();
    await schema.createIndex('host_labels_label').on('host_labels').columns(['label', 'host']).execute();
    for (const column of ['origin', 'uuid'] as const)
      await schema.alterTable('events').addColumn(column, text).execute();
    await schema
      .createTable('domains')
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('host', text, (c) => c.notNull())
      .addColumn('origin', text, (c) => c.notNull())
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('uuid', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('details', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('domains_key', ['host_id', 'origin', 'name', 'uuid'])
      .execute();
    await schema
      .createIndex('domains_place')
      .on('domains')
      .columns(['host', 'name', 'origin', 'uuid'])
      .execute();
    await schema
      .createTable('domain_uses')
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('host', text, (c) => c.notNull())
      .addColumn('origin', text, (c) => c.notNull())
      .addColumn('domain', text, (c) => c.notNull())
      .addColumn('uuid', text, (c) => c.notNull())
      .addColumn('pool', text, (c) => c.notNull())
      .addColumn('volume', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('domain_uses_key', ['host_id', 'origin', 'domain', 'uuid', 'pool', 'volume'])
      .execute();
    await schema
      .createIndex('domain_uses_volume')
      .on('domain_uses')
      .columns(['host_id', 'pool', 'volume'])
      .execute();
    await schema
      .createIndex('domain_uses_domain')
      .on('domain_uses')
      .columns(['domain', 'host', 'pool', 'volume'])
      .execute();

    await schema
      .alterTable('pools')
      .addColumn('volume_count', 'integer', (c) => c.notNull().defaultTo(0))
      .execute();
    await sql`UPDATE pools SET volume_count = (
      SELECT count(*) FROM volumes WHERE volumes.host_id = pools.host_id AND volumes.pool = pools.name)`.execute(
      db,
    );
    await schema.alterTable('volumes').addColumn('modified_at', 'bigint').execute();
    await sql`UPDATE volumes SET modified_at = ${
      isPostgres(db)
        ? sql`((details::json -> 'timestamps' ->> 'mtime')::numeric * 1000)::bigint`
        : sql`CAST(json_extract(details, '$.timestamps.mtime') * 1000 AS INTEGER)`
    }`.execute(db);
    for (const [index, columns] of [
      ['volumes_format', ['format', 'host', 'pool', 'name']],
      ['volumes_name', ['name', 'host', 'pool']],
      ['volumes_modified', ['modified_at', 'host', 'pool', 'name']],
    ] as const)
      await schema
        .createIndex(index)
        .on('volumes')
        .columns([...columns])
        .execute();
    await schema
      .createTable('volume_names')
      .addColumn('id', id.type, id.build)
      .addColumn('name', text, (c) => c.notNull().unique())
      .execute();
    // The trail and the jobs of one host, the newest first.
    const host = `substr("target", 1, length("target") - length(ltrim("target", replace("target", '/', ''))))`;
    await sql.raw(`CREATE INDEX audit_host ON audit ((${host}), seq)`).execute(db);
    await sql.raw(`CREATE INDEX jobs_host ON jobs ((${host}), id)`).execute(db);
    await indexPartsOfNames(db);
    await sql`INSERT INTO volume_names (name) SELECT DISTINCT name FROM volumes`.execute(db);
  },
};
