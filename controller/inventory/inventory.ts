import { EventEmitter } from 'node:events';
import { type Pool, type PoolDefinition, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { type Volume, volumeSchema } from '../../shared/conf/volume.ts';
import type { AgentEvent, KnownPool } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store } from '../store/open.ts';
import type { HostRow, PoolRow, VolumeRow } from '../store/schema.ts';

/** What subscribers of the event stream are told. */
export interface FleetEvent {
  type: 'host' | 'pool' | 'pool-gone' | 'volume' | 'volume-gone' | 'job';
  host?: string;
  pool?: string;
  volume?: string;
  /** The new state, as the API gives it. */
  now?: unknown;
}

export interface VolumeFilter {
  host?: string;
  pool?: string;
  name?: string;
  id?: string;
  format?: string;
  /** At most this many, the ones after `after` (`host/pool/volume`). */
  limit: number;
  after?: string;
}

type PoolAnswer = Omit<PoolRow, 'definition' | 'generation' | 'revision'> & { host: string };
type VolumeAnswer = Omit<VolumeRow, 'details'>;

/** Longest that a caller waits for what it changed to be shown. */
const SHOWN_MS = 2000;

/** All but the whole documents, which are for those who ask for one. */
const POOL_COLUMNS = [
  'pools.host_id',
  'pools.name',
  'pools.uuid',
  'pools.type',
  'pools.state',
  'pools.reason',
  'pools.target_path',
  'pools.target_permissions',
  'pools.capacity_bytes',
  'pools.allocation_bytes',
  'pools.available_bytes',
  'pools.autostart',
] as const;
const VOLUME_COLUMNS = [
  'volumes.host_id',
  'volumes.host',
  'volumes.pool',
  'volumes.name',
  'volumes.id',
  'volumes.type',
  'volumes.format',
  'volumes.path',
  'volumes.capacity_bytes',
  'volumes.allocation_bytes',
  'volumes.snapshot_count',
  'volumes.backing_store',
  'volumes.etag',
  'volumes.damaged',
] as const;

/** What is where, as the agents last told: a replica, from which nothing is ever decided without asking the agent. */
export class Inventory extends EventEmitter<{ event: [FleetEvent] }> {
  readonly #store: Store;
  /** Names listed so far, of pools that are being told whole. */
  readonly #listing = new Map<string, Set<string>>();

  constructor(store: Store) {
    super();
    this.setMaxListeners(0);
    this.#store = store;
  }

  tell(event: FleetEvent): void {
    this.emit('event', event);
  }

  // ---- what agents tell ----

  /** Applies one event of an agent, in the order in which they came. */
  async apply(host: Pick<HostRow, 'id' | 'name'>, event: AgentEvent): Promise<void> {
    switch (event.type) {
      case 'begin':
        // A listing that a cut link ended is of no use.
        for (const key of this.#listing.keys()) if (key.startsWith(`${host.id}/`)) this.#listing.delete(key);
        return this.#forgetPoolsBut(host, event.pools);
      case 'pool':
        await this.#putPool(host.id, event.pool);
        return this.tell({ type: 'pool', host: host.name, pool: event.pool.name, now: event.pool });
      case 'pool-gone':
        return this.#forgetPool(host, event.pool);
      case 'volumes-begin':
        if (await isPool(this.#store, host.id, event.pool))
          this.#listing.set(`${host.id}/${event.pool}`, new Set());
        return;
      case 'volumes':
        return this.#applyVolumes(host, event);
      case 'volumes-end':
        return this.#endListing(host, event.pool, event.now);
      case 'alive':
        return;
    }
  }

  /** What is known of a host's pools: it need tell only what differs. */
  async known(hostId: string): Promise<Record<string, KnownPool>> {
    const rows = await this.#store
      .selectFrom('pools')
      .select(['name', 'generation', 'revision'])
      .where('host_id', '=', hostId)
      .execute();
    const known: Record<string, KnownPool> = {};
    for (const { name, generation, revision } of rows)
      if (generation !== null && revision !== null) known[name] = { generation, revision };
    return known;
  }

  async #forgetPoolsBut(host: Pick<HostRow, 'id' | 'name'>, pools: readonly string[]): Promise<void> {
    const rows = await this.#store
      .selectFrom('pools')
      .select('name')
      .where('host_id', '=', host.id)
      .execute();
    for (const { name } of rows) if (!pools.includes(name)) await this.#forgetPool(host, name);
  }

  async #forgetPool(host: Pick<HostRow, 'id' | 'name'>, pool: string): Promise<void> {
    await this.#store.transaction().execute(async (store) => {
      await store.deleteFrom('volumes').where('host_id', '=', host.id).where('pool', '=', pool).execute();
      await store.deleteFrom('pools').where('host_id', '=', host.id).where('name', '=', pool).execute();
    });
    this.tell({ type: 'pool-gone', host: host.name, pool });
  }

  /** One page of volumes, in one transaction. Of what was known so already nobody is told. */
  async #applyVolumes(
    host: Pick<HostRow, 'id' | 'name'>,
    { pool, volumes, gone, now }: Extract<AgentEvent, { type: 'volumes' }>,
  ): Promise<void> {
    const listing = this.#listing.get(`${host.id}/${pool}`);
    for (const { name } of volumes) listing?.add(name);
    for (const { name } of gone) listing?.delete(name);
    const { removed, changed } = await this.#store.transaction().execute(async (store) => {
      const removed: string[] = [];
      for (const { name, id } of gone)
        if (await removeVolume(store, host.id, pool, name, id)) removed.push(name);
      const changed = await putVolumes(store, host, pool, volumes);
      if (now && !listing) await know(store, host.id, pool, now);
      return { removed, changed };
    });
    for (const volume of removed) this.tell({ type: 'volume-gone', host: host.name, pool, volume });
    for (const volume of changed)
      this.tell({ type: 'volume', host: host.name, pool, volume: volume.name, now: volume });
  }

  /** Everything was listed: what was not is not there. */
  async #endListing(host: Pick<HostRow, 'id' | 'name'>, pool: string, now: KnownPool): Promise<void> {
    const key = `${host.id}/${pool}`;
    const listed = this.#listing.get(key) ?? new Set();
    this.#listing.delete(key);
    const rows = await this.#store
      .selectFrom('volumes')
      .select('name')
      .where('host_id', '=', host.id)
      .where('pool', '=', pool)
      .execute();
    const missing = rows.filter(({ name }) => !listed.has(name));
    await this.#store.transaction().execute(async (store) => {
      for (const { name } of missing)
        await store
          .deleteFrom('volumes')
          .where('host_id', '=', host.id)
          .where('pool', '=', pool)
          .where('name', '=', name)
          .execute();
      await know(store, host.id, pool, now);
    });
    for (const { name } of missing) this.tell({ type: 'volume-gone', host: host.name, pool, volume: name });
  }

  async #putPool(hostId: string, pool: Pool): Promise<void> {
    const row = poolRow(hostId, pool);
    await this.#store
      .insertInto('pools')
      .values({ ...row, generation: null, revision: null })
      .onConflict((c) => c.columns(['host_id', 'name']).doUpdateSet(row))
      .execute();
  }

  /**
   * Settles when the inventory shows what an agent has just answered, or after a moment: only what agents tell in order is
   * written, and the telling may come after the answer.
   */
  async shows(host: string, pool: string, name: string, etag: string | undefined): Promise<void> {
    const changed = Promise.withResolvers<void>();
    // A look may fail when nobody waits any more.
    changed.promise.catch(() => undefined);
    const look = async (): Promise<void> => {
      const [found] = await this.volumes({ host, pool, name, limit: 1 });
      if (etag === undefined ? !found : found?.etag === etag) changed.resolve();
    };
    const heard = (event: FleetEvent): void => {
      if (event.host === host && event.pool === pool && event.volume === name)
        void look().catch(changed.reject);
    };
    const timer = clock.after(SHOWN_MS, () => changed.resolve());
    this.on('event', heard);
    try {
      await look();
      await changed.promise;
    } finally {
      timer.stop();
      this.off('event', heard);
    }
  }

  // ---- what people ask ----

  async pools(host?: string): Promise<PoolAnswer[]> {
    let query = this.#store
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .select(POOL_COLUMNS)
      .select('hosts.name as host');
    if (host !== undefined) query = query.where('hosts.name', '=', host);
    return query.orderBy('hosts.name').orderBy('pools.name').execute();
  }

  async pool(host: string, name: string): Promise<PoolAnswer> {
    const found = (await this.pools(host)).find((pool) => pool.name === name);
    if (found) return found;
    const known = await this.#store
      .selectFrom('hosts')
      .select('id')
      .where('name', '=', host)
      .executeTakeFirst();
    if (!known) throw new StowageError('host-not-found', `there is no host '${host}'`);
    throw new StowageError('pool-not-found', `host '${host}' has no pool '${name}'`);
  }

  /** A pool of which it is known what is in it. Throws `pool-inactive` for one that is not started. */
  async knownPool(host: string, name: string): Promise<PoolAnswer> {
    const pool = await this.pool(host, name);
    if (pool.state === 'inactive')
      throw new StowageError(
        'pool-inactive',
        `pool '${host}/${name}' is not started; what is in it is not known`,
      );
    return pool;
  }

  /** A pool as its owner defined it. */
  async definition(host: string, name: string): Promise<PoolDefinition> {
    const { host_id: hostId } = await this.pool(host, name);
    const { definition } = await this.#store
      .selectFrom('pools')
      .select('definition')
      .where('host_id', '=', hostId)
      .where('name', '=', name)
      .executeTakeFirstOrThrow();
    if (definition === null)
      throw new StowageError(
        'host-unreachable',
        `host '${host}' has not told what its pool '${name}' is yet`,
      );
    return poolDefinitionSchema.parse(JSON.parse(definition));
  }

  /** A volume with everything that its host told of it. */
  async wholeVolume(host: string, pool: string, name: string): Promise<Volume> {
    const { host_id: hostId } = await this.volume(host, pool, name);
    const { details } = await this.#store
      .selectFrom('volumes')
      .select('details')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .where('name', '=', name)
      .executeTakeFirstOrThrow();
    if (details === null)
      throw new StowageError(
        'host-unreachable',
        `host '${host}' has not told what its volume '${name}' is yet`,
      );
    return volumeSchema.parse(JSON.parse(details));
  }

  /** Volumes by host, pool and name; a page is found by its key, so that the last costs what the first does. */
  async volumes(filter: VolumeFilter): Promise<VolumeAnswer[]> {
    let query = this.#store.selectFrom('volumes').select(VOLUME_COLUMNS);
    if (filter.host !== undefined) query = query.where('volumes.host', '=', filter.host);
    if (filter.pool !== undefined) query = query.where('volumes.pool', '=', filter.pool);
    if (filter.name !== undefined) query = query.where('volumes.name', '=', filter.name);
    if (filter.id !== undefined) query = query.where('volumes.id', '=', filter.id);
    if (filter.format !== undefined) query = query.where('volumes.format', '=', filter.format);
    if (filter.after !== undefined) {
      const [host = '', pool = '', name = ''] = filter.after.split('/');
      // Only what is not given can differ: so the index leads to the place.
      const isIn = filter.host === undefined || filter.host === host;
      if (isIn && filter.host !== undefined && filter.pool === pool)
        query = query.where('volumes.name', '>', name);
      else if (isIn && filter.host !== undefined)
        query = query.where(({ eb, refTuple, tuple }) =>
          eb(refTuple('volumes.pool', 'volumes.name'), '>', tuple(pool, name)),
        );
      else
        query = query.where(({ eb, refTuple, tuple }) =>
          eb(refTuple('volumes.host', 'volumes.pool', 'volumes.name'), '>', tuple(host, pool, name)),
        );
    }
    return query
      .orderBy('volumes.host')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(filter.limit)
      .execute();
  }

  async volume(host: string, pool: string, name: string): Promise<VolumeAnswer> {
    const [found] = await this.volumes({ host, pool, name, limit: 1 });
    if (found) return found;
    await this.knownPool(host, pool);
    throw new StowageError('volume-not-found', `pool '${host}/${pool}' has no volume '${name}'`);
  }
}

async function isPool(store: Store, hostId: string, name: string): Promise<boolean> {
  const found = await store
    .selectFrom('pools')
    .select('name')
    .where('host_id', '=', hostId)
    .where('name', '=', name)
    .executeTakeFirst();
  return found !== undefined;
}

/** Whether it was there. */
async function removeVolume(
  store: Store,
  hostId: string,
  pool: string,
  name: string,
  id: string,
): Promise<boolean> {
  const { numDeletedRows } = await store
    .deleteFrom('volumes')
    .where('host_id', '=', hostId)
    .where('pool', '=', pool)
    .where('name', '=', name)
    .where('id', '=', id)
    .executeTakeFirst();
  return numDeletedRows > 0n;
}

/**
 * Puts volumes in their places, in a transaction, and gives those that are new or differ from what was there. Those of a pool
 * that nobody has told of are left out.
 */
async function putVolumes(
  store: Store,
  { id, name: host }: Pick<HostRow, 'id' | 'name'>,
  pool: string,
  volumes: readonly Volume[],
): Promise<Volume[]> {
  if (!(await isPool(store, id, pool))) return [];
  // An agent may name one twice: the last word counts.
  const last = new Map(volumes.map((volume) => [volume.name, volume]));
  if (last.size === 0) return [];
  const changed = await store
    .insertInto('volumes')
    .values([...last.values()].map((volume) => volumeRow(id, host, pool, volume)))
    .onConflict((conflict) =>
      conflict
        .columns(['host_id', 'pool', 'name'])
        .doUpdateSet(({ ref }) => ({
          id: ref('excluded.id'),
          type: ref('excluded.type'),
          format: ref('excluded.format'),
          path: ref('excluded.path'),
          capacity_bytes: ref('excluded.capacity_bytes'),
          allocation_bytes: ref('excluded.allocation_bytes'),
          snapshot_count: ref('excluded.snapshot_count'),
          backing_store: ref('excluded.backing_store'),
          etag: ref('excluded.etag'),
          damaged: ref('excluded.damaged'),
          details: ref('excluded.details'),
        }))
        .whereRef('volumes.details', 'is distinct from', 'excluded.details'),
    )
    .returning('volumes.name')
    .execute();
  return changed.map(({ name }) => last.get(name)!);
}

/** In the transaction that makes it so. */
async function know(store: Store, hostId: string, pool: string, state: KnownPool): Promise<void> {
  await store
    .updateTable('pools')
    .set(state)
    .where('host_id', '=', hostId)
    .where('name', '=', pool)
    .execute();
}

function poolRow(hostId: string, pool: Pool): Omit<PoolRow, 'generation' | 'revision'> {
  return {
    host_id: hostId,
    name: pool.name,
    uuid: pool.uuid,
    type: pool.type,
    state: pool.state,
    reason: pool.reason ?? null,
    target_path: pool.target.path ?? '',
    target_permissions: pool.target.permissions ? JSON.stringify(pool.target.permissions) : null,
    capacity_bytes: pool.capacityBytes,
    allocation_bytes: pool.allocationBytes,
    available_bytes: pool.availableBytes,
    autostart: pool.autostart ? 1 : 0,
    definition: JSON.stringify(poolDefinitionSchema.parse(pool)),
  };
}

function volumeRow(hostId: string, host: string, pool: string, volume: Volume): VolumeRow {
  return {
    host_id: hostId,
    host,
    pool,
    name: volume.name,
    id: volume.id,
    type: volume.type,
    format: volume.format,
    path: volume.path,
    capacity_bytes: volume.capacityBytes,
    allocation_bytes: volume.allocationBytes,
    snapshot_count: volume.snapshotCount,
    backing_store: volume.backingStore?.path ?? null,
    etag: volume.etag,
    damaged: volume.damaged ?? null,
    details: JSON.stringify(volume),
  };
}
