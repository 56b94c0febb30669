import type { Kysely, Selectable } from 'kysely';
import { z } from 'zod';
import {
  type Pool,
  type PoolDefinition,
  poolDefinitionSchema,
  poolStateSchema,
} from '../../../shared/conf/pool.ts';
import { poolUsageFields } from '../../../shared/conf/pool-usage.ts';
import type { KnownPool } from '../../../shared/protocol/agent.ts';
import type { FleetPool, FleetTotals, Host } from '../../../shared/protocol/api.ts';
import type { Database, LeftoverColumns, PoolRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

const usageSchema = z.object(poolUsageFields);

/** What agents have left in a pool, together. */
export interface Leftovers {
  count: number;
  allocationBytes: number;
  /** When some were found first, ms since the epoch. */
  since: number;
}

function poolOf(row: Selectable<PoolRow> & { host: string; host_state: Host['state'] }): FleetPool {
  const definition = poolDefinitionSchema.parse(JSON.parse(row.definition));
  return {
    ...definition,
    host: row.host,
    hostState: row.host_state,
    state: poolStateSchema.parse(row.state),
    reason: row.reason ?? undefined,
    since: row.since ?? undefined,
    capacityBytes: row.capacity_bytes,
    allocationBytes: row.allocation_bytes,
    availableBytes: row.available_bytes,
    ...usageSchema.parse(JSON.parse(row.usage ?? '{}')),
    volumeCount: row.volume_count,
    storageId: row.storage_id ?? undefined,
  };
}

const NEVER_LOOKED_INTO: LeftoverColumns = {
  ...{ leftover_count: null, leftover_bytes: null, leftovers_since: null },
  leftovers_looked_at: 0,
};

/** What is told of a pool; the other columns follow from its definition. */
const TOLD = [
  'state',
  'reason',
  'since',
  'capacity_bytes',
  'allocation_bytes',
  'available_bytes',
  'definition',
  'usage',
  'storage_id',
] as const;

export interface PoolFilter {
  host?: string;
  scopes?: readonly string[];
  /** At most this many, those after `after` (`host/pool`). */
  limit?: number;
  after?: string;
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
      .select(['hosts.name as host', 'hosts.state as host_state']);
  }

  /** By host and name. */
  async list({ host, scopes = [], limit, after }: PoolFilter): Promise<FleetPool[]> {
    let query = this.#pools();
    if (host !== undefined) query = query.where('hosts.name', '=', host);
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' }));
    if (after !== undefined) {
      const [afterHost = '', afterPool = ''] = after.split('/');
      query = query.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('hosts.name', 'pools.name'), '>', tuple(afterHost, afterPool)),
      );
    }
    if (limit !== undefined) query = query.limit(limit);
    return (await query.orderBy('hosts.name').orderBy('pools.name').execute()).map(poolOf);
  }

  #ofReachable(scopes: readonly string[], limit: number) {
    const query = this.#pools()
      .where('hosts.state', '=', 'reachable')
      .orderBy('hosts.name')
      .orderBy('pools.name')
      .limit(limit);
    if (scopes.length === 0) return query;
    return query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' }));
  }

  /** Those of reachable hosts that do not run though they should, by host and name, at most `limit`. */
  async down(scopes: readonly string[], limit: number): Promise<FleetPool[]> {
    const query = this.#ofReachable(scopes, limit).where((eb) =>
      eb.or([
        eb('pools.state', '=', 'inaccessible'),
        eb.and([eb('pools.state', '=', 'inactive'), eb('pools.definition', 'like', '%"autostart":true%')]),
      ]),
    );
    return (await query.execute()).map(poolOf);
  }

  /** Those of reachable hosts that run and are nearly full, by host and name, at most `limit`. */
  async filling(scopes: readonly string[], limit: number): Promise<FleetPool[]> {
    const query = this.#ofReachable(scopes, limit)
      .where('pools.state', '=', 'running')
      .where((eb) =>
        eb.or(['warning', 'critical'].map((fill) => eb('pools.usage', 'like', `%"fill":"${fill}"%`))),
      );
    return (await query.execute()).map(poolOf);
  }

  #leftovers() {
    return this.db
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .select([
        ...(['hosts.name as host', 'pools.name as name', 'leftover_count as count'] as const),
        ...(['leftover_bytes as allocationBytes', 'leftovers_since as since'] as const),
      ])
      .where('leftover_count', '>', 0)
      .$narrowType<{ count: number; allocationBytes: number; since: number }>();
  }

  /** Running ones of reachable hosts in which looks found leftovers for so long, ms, by host and name, at most `limit`. */
  withLeftovers(
    scopes: readonly string[],
    lastingMs: number,
    limit: number,
  ): Promise<(Leftovers & { host: string; name: string })[]> {
    const query = this.#leftovers()
      .where('hosts.state', '=', 'reachable')
      .where('pools.state', '=', 'running')
      .where((eb) => eb('leftovers_looked_at', '>=', eb('leftovers_since', '+', lastingMs)))
      .orderBy('hosts.name')
      .orderBy('pools.name')
      .limit(limit);
    if (scopes.length === 0) return query.execute();
    return query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' })).execute();
  }

  /** Undefined where there were none at the last look, or there is no such pool. */
  leftoversOf(host: string, name: string): Promise<Leftovers | undefined> {
    return this.#leftovers().where('hosts.name', '=', host).where('pools.name', '=', name).executeTakeFirst();
  }

  /** Running pools of a host that nobody has looked into for leftovers since a time: those first that wait longest. */
  async lookedAtBefore(host: string, time: number, limit: number): Promise<string[]> {
    const rows = await this.db
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .select('pools.name')
      .where('hosts.name', '=', host)
      .where('pools.state', '=', 'running')
      .where('leftovers_looked_at', '<', time)
      .orderBy('leftovers_looked_at')
      .limit(limit)
      .execute();
    return rows.map(({ name }) => name);
  }

  async find(host: string, name: string): Promise<FleetPool | undefined> {
    const row = await this.#pools()
      .where('hosts.name', '=', host)
      .where('pools.name', '=', name)
      .executeTakeFirst();
    return row && poolOf(row);
  }

  /** The storage that a pool is; undefined where that is not known. */
  async storageOf(host: string, name: string): Promise<string | undefined> {
    const row = await this.db
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .select('pools.storage_id')
      .where('hosts.name', '=', host)
      .where('pools.name', '=', name)
      .executeTakeFirst();
    return row?.storage_id ?? undefined;
  }

  /** The pools that are one storage with others, by host and name: all, or those of one storage. */
  async shared(storageId?: string): Promise<FleetPool[]> {
    let query = this.#pools();
    if (storageId !== undefined) query = query.where('pools.storage_id', '=', storageId);
    const rows = await query
      .where('pools.storage_id', 'in', (eb) =>
        eb
          .selectFrom('pools')
          .select('storage_id')
          .where('storage_id', 'is not', null)
          .groupBy('storage_id')
          .having((having) => having.fn.countAll(), '>', 1),
      )
      .orderBy('hosts.name')
      .orderBy('pools.name')
      .execute();
    return rows.map(poolOf);
  }

  /** Sums over all in the scopes; those of hosts that do not answer are `away`. */
  async totals(scopes: readonly string[]): Promise<FleetTotals['pools']> {
    let query = this.db.selectFrom('pools').innerJoin('hosts', 'hosts.id', 'pools.host_id');
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' }));
    const rows = await query
      .select(({ eb, fn }) => [
        eb
          .case()
          .when('hosts.state', '=', 'reachable')
          .then(eb.ref('pools.state'))
          .else('away')
          .end()
          .as('shown_state'),
        fn.countAll().as('count'),
        fn.sum('pools.capacity_bytes').as('capacity'),
        fn.sum('pools.allocation_bytes').as('allocation'),
        fn.sum('pools.available_bytes').as('available'),
        fn.sum('pools.volume_count').as('volumes'),
      ])
      .groupBy('shown_state')
      .execute();
    const sum = (value: (row: (typeof rows)[number]) => unknown): number =>
      rows.reduce((total, row) => total + Number(value(row)), 0);
    return {
      byState: Object.fromEntries(rows.map(({ shown_state, count }) => [shown_state, Number(count)])),
      capacityBytes: sum(({ capacity }) => capacity),
      allocationBytes: sum(({ allocation }) => allocation),
      availableBytes: sum(({ available }) => available),
      volumeCount: sum(({ volumes }) => volumes),
    };
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

  /** How many volumes the pools of a host are known to have. */
  async volumesOf(hostId: string): Promise<number> {
    const { total } = await this.db
      .selectFrom('pools')
      .select(({ fn }) => fn.sum('volume_count').as('total'))
      .where('host_id', '=', hostId)
      .executeTakeFirstOrThrow();
    return Number(total);
  }

  /** Whether a pool is known exactly so. */
  async isSame(hostId: string, pool: Pool): Promise<boolean> {
    const row: Partial<Selectable<PoolRow>> | undefined = await this.db
      .selectFrom('pools')
      .selectAll()
      .where('host_id', '=', hostId)
      .where('name', '=', pool.name)
      .executeTakeFirst();
    const told = rowOf(hostId, pool);
    told.storage_id ??= row?.storage_id ?? null;
    return row !== undefined && TOLD.every((column) => row[column] === told[column]);
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
    const told = rowOf(hostId, pool);
    // While its storage is away a host that was started anew does not know which one it is.
    const row = { ...told, storage_id: told.storage_id ?? (await this.#storageOf(hostId, pool)) };
    // Another pool of the name has nothing of what was found in the one before.
    await this.#ofHostId(hostId, pool.name).where('uuid', '!=', pool.uuid).set(NEVER_LOOKED_INTO).execute();
    const changed = await this.db
      .insertInto('pools')
      .values({
        ...row,
        ...{ generation: null, revision: null, volume_count: 0 },
        ...NEVER_LOOKED_INTO,
      })
      .onConflict((conflict) =>
        conflict
          .columns(['host_id', 'name'])
          .doUpdateSet(row)
          .where(({ eb, or, ref }) =>
            or(
              TOLD.map((column) => eb(ref(`pools.${column}`), 'is distinct from', ref(`excluded.${column}`))),
            ),
          ),
      )
      .returning('name')
      .executeTakeFirst();
    return changed !== undefined;
  }

  async #storageOf(hostId: string, { name, uuid }: Pool): Promise<string | null> {
    const row = await this.db
      .selectFrom('pools')
      .select('storage_id')
      .where('host_id', '=', hostId)
      .where('name', '=', name)
      .where('uuid', '=', uuid)
      .executeTakeFirst();
    return row?.storage_id ?? null;
  }

  /** With its volumes. */
  async remove(hostId: string, name: string): Promise<void> {
    await this.db.deleteFrom('volumes').where('host_id', '=', hostId).where('pool', '=', name).execute();
    await this.db.deleteFrom('pools').where('host_id', '=', hostId).where('name', '=', name).execute();
  }

  /** When a pool was looked into for leftovers; what is known of them stays. */
  async setLookedAt(host: string, name: string, at: number): Promise<void> {
    await this.#ofHost(host, name).set({ leftovers_looked_at: at }).execute();
  }

  /** What was found in a pool, and when. */
  async setLeftovers(
    host: string,
    name: string,
    leftovers: Leftovers | undefined,
    at: number,
  ): Promise<void> {
    await this.#ofHost(host, name)
      .set({
        leftover_count: leftovers?.count ?? null,
        leftover_bytes: leftovers?.allocationBytes ?? null,
        leftovers_since: leftovers?.since ?? null,
        leftovers_looked_at: at,
      })
      .execute();
  }

  #ofHostId(hostId: string, name: string) {
    return this.db.updateTable('pools').where('host_id', '=', hostId).where('name', '=', name);
  }

  #ofHost(host: string, name: string) {
    return this.db
      .updateTable('pools')
      .where('name', '=', name)
      .where('host_id', '=', (eb) => eb.selectFrom('hosts').select('id').where('hosts.name', '=', host));
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

type ToldRow = Omit<PoolRow, 'generation' | 'revision' | 'volume_count' | keyof LeftoverColumns>;

function rowOf(hostId: string, pool: Pool): ToldRow {
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
    usage: JSON.stringify(usageSchema.parse(pool)),
    storage_id: pool.storageId ?? null,
  };
}
