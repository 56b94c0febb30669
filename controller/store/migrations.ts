import { type Kysely, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes, isPostgres } from './column-types.ts';
import { indexPartsOfNames } from './name-parts.ts';

// A migration runs on stores of any age: it knows the tables only as they were when it was written.
type Database = Kysely<unknown>;

const first: Migration = {
  async up(db: Database) {
    const { schema } = db;
    const { text, id, reference } = columnTypes(db);
    await schema
      .createTable('hosts')
      .addColumn('id', text, (c) => c.primaryKey())
      .addColumn('name', text, (c) => c.notNull().unique())
      .addColumn('kind', text, (c) => c.notNull())
      .addColumn('address', text, (c) => c.notNull())
      .addColumn('agent_id', text)
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('reason', text)
      .addColumn('since', 'bigint', (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createTable('enrolments')
      .addColumn('token_hash', text, (c) => c.primaryKey())
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('expires_at', 'bigint', (c) => c.notNull())
      .addColumn('used_at', 'bigint')
      .execute();
    await schema
      .createTable('pools')
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('uuid', text, (c) => c.notNull())
      .addColumn('type', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('reason', text)
      .addColumn('target_path', text, (c) => c.notNull())
      .addColumn('capacity_bytes', 'bigint', (c) => c.notNull())
      .addColumn('allocation_bytes', 'bigint', (c) => c.notNull())
      .addColumn('available_bytes', 'bigint', (c) => c.notNull())
      .addColumn('autostart', 'integer', (c) => c.notNull())
      .addPrimaryKeyConstraint('pools_key', ['host_id', 'name'])
      .execute();
    await schema
      .createTable('volumes')
      .addColumn('host_id', text, (c) => c.notNull().references('hosts.id').onDelete('cascade'))
      .addColumn('pool', text, (c) => c.notNull())
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('id', text, (c) => c.notNull())
      .addColumn('type', text, (c) => c.notNull())
      .addColumn('format', text, (c) => c.notNull())
      .addColumn('path', text, (c) => c.notNull())
      .addColumn('capacity_bytes', 'bigint', (c) => c.notNull())
      .addColumn('allocation_bytes', 'bigint', (c) => c.notNull())
      .addColumn('snapshot_count', 'integer', (c) => c.notNull())
      .addColumn('backing_store', text)
      .addColumn('etag', text, (c) => c.notNull())
      .addColumn('damaged', text)
      .addPrimaryKeyConstraint('volumes_key', ['host_id', 'pool', 'name'])
      .execute();
    await schema.createIndex('volumes_id').on('volumes').column('id').execute();
    await schema
      .createTable('jobs')
      .addColumn('id', id.type, id.build)
      .addColumn('kind', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addColumn('params', text, (c) => c.notNull())
      .addColumn('notes', text, (c) => c.notNull())
      .addColumn('done_bytes', 'bigint', (c) => c.notNull())
      .addColumn('total_bytes', 'bigint', (c) => c.notNull())
      .addColumn('wire_bytes', 'bigint', (c) => c.notNull())
      .addColumn('error_code', text)
      .addColumn('error_message', text)
      .addColumn('cancel_requested', 'integer', (c) => c.notNull())
      .addColumn('created_by', text, (c) => c.notNull())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addColumn('updated_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema.createIndex('jobs_state').on('jobs').column('state').execute();
    await schema
      .createTable('job_steps')
      .addColumn('job_id', reference, (c) => c.notNull().references('jobs.id').onDelete('cascade'))
      .addColumn('number', 'integer', (c) => c.notNull())
      .addColumn('name', text, (c) => c.notNull())
      .addColumn('started_at', 'bigint', (c) => c.notNull())
      .addColumn('finished_at', 'bigint')
      .addPrimaryKeyConstraint('job_steps_key', ['job_id', 'number'])
      .execute();
    await schema
      .createTable('leases')
      .addColumn('id', id.type, id.build)
      .addColumn('volume', text, (c) => c.notNull())
      .addColumn('mode', text, (c) => c.notNull())
      .addColumn('token', 'bigint', (c) => c.notNull())
      .addColumn('holder', text, (c) => c.notNull())
      .addColumn('job_id', reference)
      .addColumn('acquired_at', 'bigint', (c) => c.notNull())
      .execute();
    await schema.createIndex('leases_volume').on('leases').column('volume').execute();
    await schema
      .createTable('lease_tokens')
      .addColumn('volume', text, (c) => c.primaryKey())
      .addColumn('token', 'bigint', (c) => c.notNull())
      .execute();
    await schema
      .createTable('tokens')
      .addColumn('id', text, (c) => c.primaryKey())
      .addColumn('name', text, (c) => c.notNull().unique())
      .addColumn('role', text, (c) => c.notNull())
      .addColumn('hash', text, (c) => c.notNull().unique())
      .addColumn('created_at', 'bigint', (c) => c.notNull())
      .addColumn('expires_at', 'bigint')
      .execute();
    await schema
      .createTable('audit')
      .addColumn('seq', 'integer', (c) => c.primaryKey())
      .addColumn('at', 'bigint', (c) => c.notNull())
      .addColumn('actor', text, (c) => c.notNull())
      .addColumn('source', text, (c) => c.notNull())
      .addColumn('action', text, (c) => c.notNull())
      .addColumn('target', text, (c) => c.notNull())
      .addColumn('outcome', text, (c) => c.notNull())
      .addColumn('detail', text, (c) => c.notNull())
      .addColumn('previous', text, (c) => c.notNull())
      .addColumn('hash', text, (c) => c.notNull())
      .execute();
    await schema
      .createTable('audit_checkpoints')
      .addColumn('seq', 'integer', (c) => c.primaryKey())
      .addColumn('hash', text, (c) => c.notNull())
      .addColumn('at', 'bigint', (c) => c.notNull())
      .addColumn('signature', text, (c) => c.notNull())
      .execute();
  },
};

const poolPermissions: Migration = {
  async up(db: Database) {
    const { schema } = db;
    const { text } = columnTypes(db);
    await schema.alterTable('pools').addColumn('target_permissions', text).execute();
  },
};

/** What a host tells of its pools and volumes is kept whole; until a host tells it anew there is none. */
const wholeDocuments: Migration = {
  async up(db: Database) {
    const { schema } = db;
    const { text } = columnTypes(db);
    await schema.alterTable('pools').addColumn('definition', text).execute();
    await schema.alterTable('volumes').addColumn('details', text).execute();
  },
};

/**
 * Volumes are read in the order of their places, a page at a time: an index has that order, so that no page sorts all. What a
 * host has told of a pool is kept with the pool: after a restart it need tell only what differs.
 */
const placesAndRevisions: Migration = {
  async up(db: Database) {
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

/**
 * Every pool and volume is kept whole: what earlier versions knew of one is put together. Jobs have an owner, a turn and
 * times of their own; tokens have scopes; changes of the fleet are numbered.
 */
const claimsAndEvents: Migration = {
  async up(db: Database) {
    const { schema } = db;
    const { text, id, reference } = columnTypes(db);
    await completeDocuments(db as Kysely<Before>);
    await schema
      .alterTable('tokens')
      .addColumn('scopes', text, (c) => c.notNull().defaultTo('[]'))
      .execute();
    await schema.alterTable('pools').addColumn('since', 'bigint').execute();
    for (const column of ['source', 'target', 'owner'] as const)
      await schema.alterTable('jobs').addColumn(column, text).execute();
    for (const column of ['claimed_until', 'started_at', 'ended_at'] as const)
      await schema.alterTable('jobs').addColumn(column, 'bigint').execute();
    await schema
      .alterTable('jobs')
      .addColumn('pause_requested', 'integer', (c) => c.notNull().defaultTo(0))
      .execute();
    await schema
      .createTable('job_hosts')
      .addColumn('job_id', reference, (c) => c.notNull().references('jobs.id').onDelete('cascade'))
      .addColumn('host', text, (c) => c.notNull())
      .addColumn('state', text, (c) => c.notNull())
      .addPrimaryKeyConstraint('job_hosts_key', ['job_id', 'host'])
      .execute();
    await schema.createIndex('job_hosts_turn').on('job_hosts').columns(['host', 'state', 'job_id']).execute();
    await tellPlacesOfJobs(db as Kysely<Before>);
    await schema.alterTable('leases').addColumn('owner', text).execute();
    await schema.createIndex('leases_job').on('leases').column('job_id').execute();
    await schema
      .createTable('events')
      .addColumn('seq', id.type, id.build)
      .addColumn('at', 'bigint', (c) => c.notNull())
      .addColumn('type', text, (c) => c.notNull())
      .addColumn('host', text)
      .addColumn('pool', text)
      .addColumn('name', text)
      .execute();
    await schema.createIndex('audit_at').on('audit').column('at').execute();
    await schema.createIndex('hosts_agent').on('hosts').column('agent_id').execute();
    await schema.createIndex('jobs_owner').on('jobs').column('owner').execute();
    await schema.createIndex('audit_actor').on('audit').columns(['actor', 'seq']).execute();
    await schema.createIndex('audit_target').on('audit').columns(['target', 'seq']).execute();
  },
};

/**
 * Domains are kept with what they use; hosts have labels. Volumes are found by format, name, part of a name and age; each
 * pool knows how many it has.
 */
const domainsAndSearch: Migration = {
  async up(db: Database) {
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

/** The columns that {@link claimsAndEvents} reads and fills. */
interface Before {
  pools: {
    host_id: string;
    name: string;
    uuid: string;
    type: string;
    target_path: string;
    autostart: number;
    definition: string | null;
  };
  volumes: {
    host_id: string;
    pool: string;
    name: string;
    id: string;
    type: string;
    format: string;
    path: string;
    capacity_bytes: number;
    allocation_bytes: number;
    snapshot_count: number;
    etag: string;
    damaged: string | null;
    details: string | null;
  };
  jobs: {
    id: number;
    kind: string;
    state: string;
    params: string;
    source: string | null;
    target: string | null;
  };
  job_hosts: { job_id: number; host: string; state: string };
}

async function completeDocuments(db: Kysely<Before>): Promise<void> {
  for (const row of await db.selectFrom('pools').selectAll().where('definition', 'is', null).execute()) {
    const { name, uuid, type, target_path: path, autostart } = row;
    const target = path === '' ? {} : { path };
    const definition = {
      name,
      uuid,
      type,
      source: { hosts: [], devices: [] },
      target,
      autostart: autostart === 1,
    };
    await db
      .updateTable('pools')
      .set({ definition: JSON.stringify(definition) })
      .where('host_id', '=', row.host_id)
      .where('name', '=', name)
      .execute();
  }
  for (const row of await db.selectFrom('volumes').selectAll().where('details', 'is', null).execute()) {
    const { id, name, type, format, path, etag } = row;
    const details = {
      ...{ id, name, type, format, path, etag },
      capacityBytes: row.capacity_bytes,
      allocationBytes: row.allocation_bytes,
      snapshotCount: row.snapshot_count,
      damaged: row.damaged ?? undefined,
    };
    await db
      .updateTable('volumes')
      .set({ details: JSON.stringify(details) })
      .where('host_id', '=', row.host_id)
      .where('pool', '=', row.pool)
      .where('name', '=', name)
      .execute();
  }
}

async function tellPlacesOfJobs(db: Kysely<Before>): Promise<void> {
  for (const { id, kind, state, params } of await db
    .selectFrom('jobs')
    .select(['id', 'kind', 'state', 'params'])
    .execute()) {
    const { source, target, volume } = JSON.parse(params) as Record<string, string | undefined>;
    const place = target ?? volume ?? '';
    await db
      .updateTable('jobs')
      .set({ source: source ?? null, target: place })
      .where('id', '=', id)
      .execute();
    if (kind === 'upload' || !['queued', 'running', 'waiting'].includes(state)) continue;
    const hosts = new Set([source ?? place, place].map((each) => each.split('/')[0]!));
    for (const host of hosts) await db.insertInto('job_hosts').values({ job_id: id, host, state }).execute();
  }
}

/** In order; a name once released never changes. */
export const MIGRATIONS: Record<string, Migration> = {
  '0001-first': first,
  '0002-pool-permissions': poolPermissions,
  '0003-whole-documents': wholeDocuments,
  '0004-places-and-revisions': placesAndRevisions,
  '0005-claims-and-events': claimsAndEvents,
  '0006-domains-and-search': domainsAndSearch,
};
