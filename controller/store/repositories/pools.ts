import type { Kysely, Selectable } from 'kysely';
import {
  type Pool,
  type PoolDefinition,
  poolDefinitionSchema,
  poolStateSchema,
} from '../../../shared/conf/pool.ts';
import type { KnownPool } from '../../../shared/protocol/agent.ts';
import type { FleetPool } from '../../../shared/protocol/api.ts';
import type { Database, PoolRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

function poolOf(row: Selectable<PoolRow> & { host: string }): FleetPool {
  const definition = poolDefinitionSchema.parse(JSON.parse(row.definition));
  return {
    ...definition,
    host: row.host,
    state: poolStateSchema.parse(row.state),
    reason: row.reason ?? undefined,
    since: row.since ?? undefined,
    capacityBytes: row.capacity_bytes,
    allocationBytes: row.allocation_bytes,
    availableBytes: row.available_bytes,
  };
}

export class PoolReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  #pools() {
    return this.db
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .selectAll('pools')
      .select('hosts.name as host');
  }

  /** By host and name. */
  async list({ host, scopes = [] }: { host?: string; scopes?: readonly string[] }): Promise<FleetPool[]> {
    let query = this.#pools();
    if (host !== undefined) query = query.where('hosts.name', '=', host);
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' }));
    return (await query.orderBy('hosts.name').orderBy('pools.name').execute()).map(poolOf);
  }

  async find(host: string, name: string): Promise<FleetPool | undefined> {
    const row = await this.#pools()
      .where('hosts.name', '=', host)
      .where('pools.name', '=', name)
      .executeTakeFirst();
    return row && poolOf(row);
  }

  async namesOf(hostId: string): Promise<string[]> {
    const rows = await this.db.selectFrom('pools').select('name').where('host_id', '=', hostId).execute();
    return rows.map(({ name }) => name);
  }

  async isKnown(hostId: string, name: string): Promise<boolean> {
    const found = await this.db
      .selectFrom('pools')
      .select('name')
      .where('host_id', '=', hostId)
      .where('name', '=', name)
      .executeTakeFirst();
    return found !== undefined;
  }

  /** Which states of a host's pools were told. */
  async known(hostId: string): Promise<Record<string, KnownPool>> {
    const rows = await this.db
      .selectFrom('pools')
      .select(['name', 'generation', 'revision'])
      .where('host_id', '=', hostId)
      .execute();
    const known: Record<string, KnownPool> = {};
    for (const { name, generation, revision } of rows)
      if (generation !== null && revision !== null) known[name] = { generation, revision };
    return known;
  }
}

export class PoolWriter extends PoolReader {
  /** Whether it differs from what was there. */
  async put(hostId: string, pool: Pool): Promise<boolean> {
    const row = rowOf(hostId, pool);
    const changed = await this.db
      .insertInto('pools')
      .values({ ...row, generation: null, revision: null })
      .onConflict((conflict) =>
        conflict
          .columns(['host_id', 'name'])
          .doUpdateSet(row)
          .where(({ eb, or, ref }) =>
            or(
              (
                [
                  'state',
                  'reason',
                  'since',
                  'capacity_bytes',
                  'allocation_bytes',
                  'available_bytes',
                  'definition',
                ] as const
              ).map((column) => eb(ref(`pools.${column}`), 'is distinct from', ref(`excluded.${column}`))),
            ),
          ),
      )
      .returning('name')
      .executeTakeFirst();
    return changed !== undefined;
  }

  /** With its volumes. */
  async remove(hostId: string, name: string): Promise<void> {
    await this.db.deleteFrom('volumes').where('host_id', '=', hostId).where('pool', '=', name).execute();
    await this.db.deleteFrom('pools').where('host_id', '=', hostId).where('name', '=', name).execute();
  }

  /** In the transaction that makes it so. */
  async setKnown(hostId: string, name: string, state: KnownPool): Promise<void> {
    await this.db
      .updateTable('pools')
      .set(state)
      .where('host_id', '=', hostId)
      .where('name', '=', name)
      .execute();
  }
}

function rowOf(hostId: string, pool: Pool): Omit<PoolRow, 'generation' | 'revision'> {
  const definition: PoolDefinition = poolDefinitionSchema.parse(pool);
  return {
    host_id: hostId,
    name: pool.name,
    uuid: pool.uuid,
    type: pool.type,
    state: pool.state,
    reason: pool.reason ?? null,
    since: pool.since ?? null,
    target_path: pool.target.path ?? '',
    target_permissions: null,
    capacity_bytes: pool.capacityBytes,
    allocation_bytes: pool.allocationBytes,
    available_bytes: pool.availableBytes,
    autostart: pool.autostart ? 1 : 0,
    definition: JSON.stringify(definition),
  };
}
