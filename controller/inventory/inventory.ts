import { isDeepStrictEqual } from 'node:util';
import { type Pool, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import type { FleetDomain, FleetPool, FleetTotals, FleetVolume } from '../../shared/protocol/api.ts';
import type { DomainKey, VolumeUser } from '../../shared/protocol/domains.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { CopyRecord } from '../store/repositories/copies.ts';
import type { DomainFilter } from '../store/repositories/domains.ts';
import type { Change } from '../store/repositories/events.ts';
import type { PoolFilter } from '../store/repositories/pools.ts';
import type { VolumeFilter } from '../store/repositories/volume-conditions.ts';
import type { RowsFilter } from '../store/repositories/volume-rows.ts';
import type { Store } from '../store/store.ts';

/** Longest that a caller waits for what it changed to be shown. */
const SHOWN_MS = 2000;

export interface VolumePlace {
  host: string;
  pool: string;
  volume: string;
}

/** What of a volume somebody may have asked to be changed. */
function stateOf(volume: Volume | undefined): unknown {
  if (!volume) return undefined;
  const { etag, capacityBytes, isBase, parentId, isProtected, notes, encryption } = volume;
  return [etag, capacityBytes, isBase, parentId, isProtected, notes, encryption?.secret];
}

/** What is where, as the agents last told: a replica. What it says may refuse a request early, and allows none that the agent would not. */
export class Inventory {
  readonly #store: Store;
  readonly #events: EventLog;

  constructor(store: Store, events: EventLog) {
    this.#store = store;
    this.#events = events;
  }

  /**
   * Settles when the inventory shows what an agent has just answered, or after a moment: only what agents tell in order is
   * written, and the telling may come after the answer.
   */
  async shows({ host, pool, volume }: VolumePlace, now: Volume | undefined): Promise<void> {
    await this.#until(
      (change) =>
        change.type === 'volume' && change.host === host && change.pool === pool && change.volume === volume,
      async () =>
        isDeepStrictEqual(stateOf(await this.#store.volumes.find(host, pool, volume)), stateOf(now)),
    );
  }

  /** As {@link shows}, of the definition and the state of a pool. Gives how many volumes it is known to have. */
  async showsPool(host: string, pool: Pool): Promise<number> {
    const told = (known: Pool): unknown => [poolDefinitionSchema.parse(known), known.state, known.since];
    let volumeCount = 0;
    await this.#until(
      (change) => change.type === 'pool' && change.host === host && change.pool === pool.name,
      async () => {
        const found = await this.#store.pools.find(host, pool.name);
        volumeCount = found?.volumeCount ?? 0;
        return found !== undefined && isDeepStrictEqual(told(found), told(pool));
      },
    );
    return volumeCount;
  }

  /** As {@link shows}, of a domain that was defined here. Gives it as it is shown. */
  async showsDomain(
    host: string,
    name: string,
    isSo: (domain: FleetDomain | undefined) => boolean,
  ): Promise<FleetDomain | undefined> {
    let found: FleetDomain | undefined;
    await this.#until(
      (change) => change.type === 'domain' && change.host === host && change.domain === name,
      async () => {
        found = await this.#store.domains.findOwn(host, name);
        return isSo(found);
      },
    );
    return found;
  }

  /** Settles when `isShown`, which is looked for now and at each change that matters, or after a moment. */
  async #until(matters: (change: Change) => boolean, isShown: () => Promise<boolean>): Promise<void> {
    const shown = Promise.withResolvers<void>();
    // A look may fail when nobody waits any more.
    shown.promise.catch(() => undefined);
    const look = async (): Promise<void> => {
      if (await isShown()) shown.resolve();
    };
    const heard = (changes: readonly Change[]): void => {
      if (changes.some(matters)) void look().catch(shown.reject);
    };
    const timer = clock.after(SHOWN_MS, () => shown.resolve());
    this.#events.on('changed', heard);
    try {
      await look();
      await shown.promise;
    } finally {
      timer.stop();
      this.#events.off('changed', heard);
    }
  }

  // ---- what is asked ----

  /** Throws `host-not-found`. */
  async #knownHost(name: string): Promise<void> {
    if (!(await this.#store.hosts.byName(name)))
      throw new StowageError('host-not-found', `there is no host '${name}'`);
  }

  /** Throws `host-not-found` for a host that there is not. */
  async pools(filter: PoolFilter): Promise<FleetPool[]> {
    if (filter.host !== undefined) await this.#knownHost(filter.host);
    return this.#store.pools.list(filter);
  }

  poolTotals(scopes: readonly string[]): Promise<FleetTotals['pools']> {
    return this.#store.pools.totals(scopes);
  }

  /** Throws `host-not-found`, `pool-not-found`. */
  async pool(host: string, name: string): Promise<FleetPool> {
    const found = await this.#store.pools.find(host, name);
    if (found) return found;
    await this.#knownHost(host);
    throw new StowageError('pool-not-found', `host '${host}' has no pool '${name}'`);
  }

  /** The pools that are one storage with others, by host and name: all, or those of one storage. */
  sharedPools(storageId?: string): Promise<FleetPool[]> {
    return this.#store.pools.shared(storageId);
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
    await this.#known(filter);
    return this.#store.volumes.list(filter);
  }

  /** As {@link volumes}, in any order and from any position. */
  async volumeRows(filter: RowsFilter): Promise<FleetVolume[]> {
    await this.#known(filter);
    return this.#store.volumeRows.list(filter);
  }

  async countVolumes(filter: Omit<VolumeFilter, 'limit' | 'after'>): Promise<number> {
    await this.#known(filter);
    return this.#store.volumeRows.count(filter);
  }

  async #known({ host, pool }: { host?: string; pool?: string }): Promise<void> {
    if (host !== undefined) await this.#knownHost(host);
    if (host !== undefined && pool !== undefined) await this.knownPool(host, pool);
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

  /** The names of volumes by their ids, of those that are known. */
  namesOf(ids: readonly string[]): Promise<Map<string, string>> {
    return this.#store.volumes.namesByIds(ids);
  }

  /**
   * The linked clones of a base, of those in the scopes, at most `limit`: in its pool, or another one that is the same storage. What a
   * host says of its own volumes keeps no volume of another storage from going.
   */
  async clonesOf(
    { id, host, pool }: FleetVolume,
    limit: number,
    scopes: readonly string[],
  ): Promise<FleetVolume[]> {
    const storage = await this.#store.pools.storageOf(host, pool);
    const same = storage === undefined ? [] : await this.#store.pools.shared(storage);
    const places =
      same.length > 0 ? same.map((each) => ({ host: each.host, pool: each.name })) : [{ host, pool }];
    const clones: FleetVolume[] = [];
    for (const place of places) {
      const left = limit - clones.length;
      if (left === 0) break;
      clones.push(...(await this.#store.volumes.list({ ...place, parentId: id, scopes, limit: left })));
    }
    return clones;
  }

  /** Throws `host-not-found` for a host that there is not. */
  async domains(filter: DomainFilter): Promise<FleetDomain[]> {
    if (filter.host !== undefined) await this.#knownHost(filter.host);
    return this.#store.domains.list(filter);
  }

  domain(host: string, key: DomainKey): Promise<FleetDomain | undefined> {
    return this.#store.domains.find(host, key);
  }

  /** Who uses a volume, as its host told last; undefined where it has told of no domains yet, which is not that it has none. */
  usersOf({ host, pool, volume }: VolumePlace): Promise<VolumeUser[] | undefined> {
    return this.#store.domains.usersOf(host, pool, volume);
  }

  /** What a volume is a copy of, by its id; undefined where no job here has made it so. */
  copyOf(volumeId: string): Promise<CopyRecord | undefined> {
    return this.#store.copies.find(volumeId);
  }

  /** Puts on record that a volume is now a copy of another one, whole. */
  noteCopy(volumeId: string, of: Omit<CopyRecord, 'copiedAt'>): Promise<void> {
    return this.#store.transaction(({ copies }) => copies.note(volumeId, { ...of, copiedAt: clock.now() }));
  }

  find({ host, pool, volume }: VolumePlace): Promise<FleetVolume | undefined> {
    return this.#store.volumes.find(host, pool, volume);
  }
}
