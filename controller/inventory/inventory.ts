import { EventEmitter } from 'node:events';
import type { AgentEvent, KnownPool } from '../../shared/protocol/agent.ts';
import type { FleetPool, FleetVolume } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { VolumeFilter } from '../store/repositories/volumes.ts';
import type { Store, Transaction } from '../store/store.ts';

/** Longest that a caller waits for what it changed to be shown. */
const SHOWN_MS = 2000;

interface ToldHost {
  id: string;
  name: string;
}

export interface VolumePlace {
  host: string;
  pool: string;
  volume: string;
}

/** What is where, as the agents last told: a replica, from which nothing is ever decided without asking the agent. */
export class Inventory extends EventEmitter<{ volume: [VolumePlace] }> {
  readonly #store: Store;
  readonly #events: EventLog;
  /** Names listed so far, of pools that are being told whole. */
  readonly #listing = new Map<string, Set<string>>();

  constructor(store: Store, events: EventLog) {
    super();
    this.setMaxListeners(0);
    this.#store = store;
    this.#events = events;
  }

  // ---- what agents tell ----

  /** Applies one event of an agent, in the order in which they came; each is one transaction. */
  async apply(host: ToldHost, event: AgentEvent): Promise<void> {
    switch (event.type) {
      case 'begin':
        // A listing that a cut link ended is of no use.
        for (const key of this.#listing.keys()) if (key.startsWith(`${host.id}/`)) this.#listing.delete(key);
        return this.#forgetPoolsBut(host, event.pools);
      case 'pool':
        return this.#events.write(async (transaction) =>
          (await transaction.pools.put(host.id, event.pool))
            ? [{ type: 'pool', host: host.name, pool: event.pool.name }]
            : [],
        );
      case 'pool-gone':
        return this.#events.write((transaction) => forgetPool(transaction, host, event.pool));
      case 'volumes-begin':
        if (await this.#store.pools.isKnown(host.id, event.pool))
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
  known(hostId: string): Promise<Record<string, KnownPool>> {
    return this.#store.pools.known(hostId);
  }

  async #forgetPoolsBut(host: ToldHost, pools: readonly string[]): Promise<void> {
    const there = new Set(pools);
    await this.#events.write(async (transaction) => {
      const gone = (await transaction.pools.namesOf(host.id)).filter((name) => !there.has(name));
      const changes = [];
      for (const name of gone) changes.push(...(await forgetPool(transaction, host, name)));
      return changes;
    });
  }

  /** One page of volumes. Of what was known so already nobody is told. */
  async #applyVolumes(
    host: ToldHost,
    { pool, volumes, gone, now }: Extract<AgentEvent, { type: 'volumes' }>,
  ): Promise<void> {
    const listing = this.#listing.get(`${host.id}/${pool}`);
    for (const { name } of volumes) listing?.add(name);
    for (const { name } of gone) listing?.delete(name);
    let names: string[] = [];
    await this.#events.write(async (transaction) => {
      names = [];
      // Of a pool that nobody has told of nothing is kept.
      if (!(await transaction.pools.isKnown(host.id, pool))) return [];
      for (const { name, id } of gone)
        if (await transaction.volumes.remove(host.id, pool, name, id)) names.push(name);
      names.push(...(await transaction.volumes.put(host, pool, volumes)));
      if (now && !listing) await transaction.pools.setKnown(host.id, pool, now);
      return names.map((volume) => ({ type: 'volume', host: host.name, pool, volume }));
    });
    for (const volume of names) this.emit('volume', { host: host.name, pool, volume });
  }

  /** Everything was listed: what was not is not there. */
  async #endListing(host: ToldHost, pool: string, now: KnownPool): Promise<void> {
    const key = `${host.id}/${pool}`;
    const listed = this.#listing.get(key);
    this.#listing.delete(key);
    if (!listed) throw new StowageError('stream-corrupt', 'the agent ended a list that it had not begun');
    let missing: string[] = [];
    await this.#events.write(async (transaction) => {
      missing = (await transaction.volumes.namesOf(host.id, pool)).filter((name) => !listed.has(name));
      await transaction.volumes.removeNamed(host.id, pool, missing);
      await transaction.pools.setKnown(host.id, pool, now);
      return missing.map((volume) => ({ type: 'volume', host: host.name, pool, volume }));
    });
    for (const volume of missing) this.emit('volume', { host: host.name, pool, volume });
  }

  /**
   * Settles when the inventory shows what an agent has just answered, or after a moment: only what agents tell in order is
   * written, and the telling may come after the answer.
   */
  async shows(place: VolumePlace, etag: string | undefined): Promise<void> {
    const { host, pool, volume } = place;
    const changed = Promise.withResolvers<void>();
    // A look may fail when nobody waits any more.
    changed.promise.catch(() => undefined);
    const look = async (): Promise<void> => {
      const found = await this.#store.volumes.find(host, pool, volume);
      if (found?.etag === etag) changed.resolve();
    };
    const heard = (told: VolumePlace): void => {
      if (told.host === host && told.pool === pool && told.volume === volume)
        void look().catch(changed.reject);
    };
    const timer = clock.after(SHOWN_MS, () => changed.resolve());
    this.on('volume', heard);
    try {
      await look();
      await changed.promise;
    } finally {
      timer.stop();
      this.off('volume', heard);
    }
  }

  // ---- what is asked ----

  /** Throws `host-not-found`. */
  async #knownHost(name: string): Promise<void> {
    if (!(await this.#store.hosts.byName(name)))
      throw new StowageError('host-not-found', `there is no host '${name}'`);
  }

  /** Throws `host-not-found` for a host that there is not. */
  async pools(filter: { host?: string; scopes?: readonly string[] } = {}): Promise<FleetPool[]> {
    if (filter.host !== undefined) await this.#knownHost(filter.host);
    return this.#store.pools.list(filter);
  }

  /** Throws `host-not-found`, `pool-not-found`. */
  async pool(host: string, name: string): Promise<FleetPool> {
    const found = await this.#store.pools.find(host, name);
    if (found) return found;
    await this.#knownHost(host);
    throw new StowageError('pool-not-found', `host '${host}' has no pool '${name}'`);
  }

  /** A pool of which it is known what is in it. Throws `pool-inactive` for one that is not started. */
  async knownPool(host: string, name: string): Promise<FleetPool> {
    const pool = await this.pool(host, name);
    if (pool.state === 'inactive')
      throw new StowageError(
        'pool-inactive',
        `pool '${host}/${name}' is not started; what is in it is not known`,
      );
    return pool;
  }

  /** A list of what is in no host, or in no pool, is no empty list. */
  async volumes(filter: VolumeFilter): Promise<FleetVolume[]> {
    const { host, pool } = filter;
    if (host !== undefined) await this.#knownHost(host);
    if (host !== undefined && pool !== undefined) await this.knownPool(host, pool);
    return this.#store.volumes.list(filter);
  }

  /** Throws `volume-not-found`, and what {@link knownPool} does. */
  async volume({ host, pool, volume }: VolumePlace): Promise<FleetVolume> {
    const found = await this.#store.volumes.find(host, pool, volume);
    if (found) return found;
    await this.knownPool(host, pool);
    throw new StowageError('volume-not-found', `pool '${host}/${pool}' has no volume '${volume}'`);
  }

  /** The volumes that say that they have an id, at most `limit`. */
  withId(id: string, limit: number): Promise<FleetVolume[]> {
    return this.#store.volumes.list({ id, limit });
  }

  find({ host, pool, volume }: VolumePlace): Promise<FleetVolume | undefined> {
    return this.#store.volumes.find(host, pool, volume);
  }
}

async function forgetPool(
  { pools }: Transaction,
  host: ToldHost,
  pool: string,
): Promise<{ type: 'pool'; host: string; pool: string }[]> {
  await pools.remove(host.id, pool);
  return [{ type: 'pool', host: host.name, pool }];
}
