import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

/**
 * Every pool and volume is kept whole: what earlier versions knew of one is put together. Jobs have an owner, a turn and
 * times of their own; tokens have scopes; changes of the fleet are numbered.
 */
export const claimsAndEvents: Migration = {
  async up(db: Kysely<unknown>) {
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
