import { EventEmitter } from 'node:events';
import type { Pool } from '../../shared/conf/pool.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
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
  /** At most this many, the ones after `after` (`host/pool/volume`). */
  limit: number;
  after?: string;
}

/** What is where, as the agents last told: a replica, from which nothing is ever decided without asking the agent. */
export class Inventory extends EventEmitter<{ event: [FleetEvent] }> {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.setMaxListeners(0);
    this.#store = store;
  }

  tell(event: FleetEvent): void {
    this.emit('event', event);
  }

  // ---- what agents tell ----

  /** Applies one event of an agent; a snapshot replaces all that was known of the host. */
  async apply(host: Pick<HostRow, 'id' | 'name'>, event: AgentEvent): Promise<void> {
    switch (event.type) {
      case 'snapshot':
        return this.#applySnapshot(host, event.pools);
      case 'pool':
        await this.#putPool(host.id, event.pool);
        return this.tell({ type: 'pool', host: host.name, pool: event.pool.name, now: event.pool });
      case 'pool-gone':
        await this.#store
          .deleteFrom('volumes')
          .where('host_id', '=', host.id)
          .where('pool', '=', event.pool)
          .execute();
        await this.#store
          .deleteFrom('pools')
          .where('host_id', '=', host.id)
          .where('name', '=', event.pool)
          .execute();
        return this.tell({ type: 'pool-gone', host: host.name, pool: event.pool });
      case 'volume':
        await this.putVolume(host.id, event.pool, event.volume);
        return this.tell({
          type: 'volume',
          host: host.name,
          pool: event.pool,
          volume: event.volume.name,
          now: event.volume,
        });
      case 'volume-gone':
        await this.#store
          .deleteFrom('volumes')
          .where('host_id', '=', host.id)
          .where('pool', '=', event.pool)
          .where('name', '=', event.volume)
          .where('id', '=', event.id)
          .execute();
        return this.tell({ type: 'volume-gone', host: host.name, pool: event.pool, volume: event.volume });
      case 'alive':
        return;
    }
  }

  async #applySnapshot(
    host: Pick<HostRow, 'id' | 'name'>,
    pools: (Pool & { volumes: Volume[] })[],
  ): Promise<void> {
    await this.#store.transaction().execute(async (store) => {
      await store.deleteFrom('volumes').where('host_id', '=', host.id).execute();
      await store.deleteFrom('pools').where('host_id', '=', host.id).execute();
      for (const { volumes, ...pool } of pools) {
        await store.insertInto('pools').values(poolRow(host.id, pool)).execute();
        // SQLite takes at most 32766 parameters a statement.
        for (let start = 0; start < volumes.length; start += 1000) {
          const rows = volumes
            .slice(start, start + 1000)
            .map((volume) => volumeRow(host.id, pool.name, volume));
          await store.insertInto('volumes').values(rows).execute();
        }
      }
    });
    for (const { volumes: _volumes, ...pool } of pools)
      this.tell({ type: 'pool', host: host.name, pool: pool.name, now: pool });
  }

  async #putPool(hostId: string, pool: Pool): Promise<void> {
    const row = poolRow(hostId, pool);
    await this.#store
      .insertInto('pools')
      .values(row)
      .onConflict((c) => c.columns(['host_id', 'name']).doUpdateSet(row))
      .execute();
  }

  async putVolume(hostId: string, pool: string, volume: Volume): Promise<void> {
    const row = volumeRow(hostId, pool, volume);
    await this.#store
      .insertInto('volumes')
      .values(row)
      .onConflict((c) => c.columns(['host_id', 'pool', 'name']).doUpdateSet(row))
      .execute();
  }

  async removeVolume(hostId: string, pool: string, name: string): Promise<void> {
    await this.#store
      .deleteFrom('volumes')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .where('name', '=', name)
      .execute();
  }

  // ---- what people ask ----

  async pools(host?: string): Promise<(PoolRow & { host: string })[]> {
    let query = this.#store
      .selectFrom('pools')
      .innerJoin('hosts', 'hosts.id', 'pools.host_id')
      .selectAll('pools')
      .select('hosts.name as host');
    if (host !== undefined) query = query.where('hosts.name', '=', host);
    return query.orderBy('hosts.name').orderBy('pools.name').execute();
  }

  async pool(host: string, name: string): Promise<PoolRow & { host: string }> {
    const found = (await this.pools(host)).find((pool) => pool.name === name);
    if (!found) throw new StowageError('pool-not-found', `host '${host}' has no pool '${name}'`);
    return found;
  }

  /** Volumes by host, pool and name; a page is found by its key, so that the last costs what the first does. */
  async volumes(filter: VolumeFilter): Promise<(VolumeRow & { host: string })[]> {
    let query = this.#store
      .selectFrom('volumes')
      .innerJoin('hosts', 'hosts.id', 'volumes.host_id')
      .selectAll('volumes')
      .select('hosts.name as host');
    if (filter.host !== undefined) query = query.where('hosts.name', '=', filter.host);
    if (filter.pool !== undefined) query = query.where('volumes.pool', '=', filter.pool);
    if (filter.name !== undefined) query = query.where('volumes.name', '=', filter.name);
    if (filter.id !== undefined) query = query.where('volumes.id', '=', filter.id);
    if (filter.after !== undefined) {
      const [host = '', pool = '', name = ''] = filter.after.split('/');
      query = query.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('hosts.name', 'volumes.pool', 'volumes.name'), '>', tuple(host, pool, name)),
      );
    }
    return query
      .orderBy('hosts.name')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(filter.limit)
      .execute();
  }

  async volume(host: string, pool: string, name: string): Promise<VolumeRow & { host: string }> {
    const [found] = await this.volumes({ host, pool, name, limit: 1 });
    if (!found) throw new StowageError('volume-not-found', `pool '${host}/${pool}' has no volume '${name}'`);
    return found;
  }
}

function poolRow(hostId: string, pool: Pool): PoolRow {
  return {
    host_id: hostId,
    name: pool.name,
    uuid: pool.uuid,
    type: pool.type,
    state: pool.state,
    reason: pool.reason ?? null,
    target_path: pool.target.path,
    target_permissions: pool.target.permissions ? JSON.stringify(pool.target.permissions) : null,
    capacity_bytes: pool.capacityBytes,
    allocation_bytes: pool.allocationBytes,
    available_bytes: pool.availableBytes,
    autostart: pool.autostart ? 1 : 0,
  };
}

function volumeRow(hostId: string, pool: string, volume: Volume): VolumeRow {
  return {
    host_id: hostId,
    pool,
    name: volume.name,
    id: volume.id,
    type: volume.type,
    format: volume.format,
    path: volume.path,
    capacity_bytes: volume.capacityBytes,
    allocation_bytes: volume.allocationBytes,
    snapshot_count: volume.snapshotCount,
    backing_store: volume.backingStore ?? null,
    etag: volume.etag,
    damaged: volume.damaged ?? null,
  };
}
