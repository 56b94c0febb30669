import type { Kysely } from 'kysely';
import type { Migration } from 'kysely/migration';
import { columnTypes } from '../column-types.ts';

export const first: Migration = {
  async up(db: Kysely<unknown>) {
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
