import { isDeepStrictEqual } from 'node:util';
import type { Pool } from '../../shared/conf/pool.ts';
import type { AgentEvent, EventsRequest, KnownPool } from '../../shared/protocol/agent.ts';
import type { DomainKey } from '../../shared/protocol/domains.ts';
import { cut, StowageError } from '../../shared/util/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Change } from '../store/repositories/events.ts';
import type { Store, Transaction } from '../store/store.ts';

const NAMES_AT_ONCE = 1000;
/** Of one host: far more than any has. Whoever tells of more is not believed. */
const MOST_POOLS = 10_000;
const MOST_DOMAINS = 10_000;
const MOST_VOLUMES = 2_000_000;
/** Of one domain and of one volume, as JSON: lists of thousands are read at once. */
const MOST_CHARACTERS_A_DOMAIN = 64 << 10;
const MOST_CHARACTERS_A_VOLUME = 16 << 10;

interface ToldHost {
  id: string;
  name: string;
}

const keyText = ({ origin, name, uuid }: DomainKey): string => JSON.stringify([origin, name, uuid]);

const changesOf = (host: ToldHost, domains: readonly DomainKey[]): Change[] =>
  domains.map(({ origin, name, uuid }) => ({
    ...{ type: 'domain', host: host.name, origin, domain: name },
    uuid: uuid === '' ? undefined : uuid,
  }));

/** Writes down what agents tell of their pools, volumes and domains. */
export class InventoryWriter {
  readonly #store: Store;
  readonly #events: EventLog;
  /** Names listed so far, of pools that are being told whole. */
  readonly #listedVolumes = new Map<string, Set<string>>();
  /** Domains listed so far, of hosts that are telling all. */
  readonly #listedDomains = new Map<string, Set<string>>();
  /** Up to where it was looked for names that no volume has any more. */
  #namesLooked = 0;

  constructor(store: Store, events: EventLog) {
    this.#store = store;
    this.#events = events;
  }

  /** What is known of a host: it need tell only what differs. */
  async stateKnownOf(hostId: string): Promise<EventsRequest> {
    const [known, domains] = await Promise.all([
      this.#store.pools.known(hostId),
      this.#store.domains.known(hostId),
    ]);
    return { known, domains };
  }

  /** Applies one event of an agent, in the order in which they came; each is one transaction. */
  async apply(host: ToldHost, event: AgentEvent): Promise<void> {
    switch (event.type) {
      case 'begin':
        // A listing that a cut link ended is of no use.
        this.forget(host.id);
        return this.#forgetPoolsBut(host, event.pools);
      case 'pool':
        return this.#applyPool(host, event.pool);
      case 'pool-gone':
        return this.#events.write((transaction) => forgetPool(transaction, host, event.pool));
      case 'volumes-begin':
        if (await this.#store.pools.isKnown(host.id, event.pool))
          this.#listedVolumes.set(`${host.id}/${event.pool}`, new Set());
        return;
      case 'volumes':
        return this.#applyVolumes(host, event);
      case 'volumes-end':
        return this.#endVolumes(host, event.pool, event.now);
      case 'domains-begin':
        this.#listedDomains.set(host.id, new Set());
        return;
      case 'domains':
        return this.#applyDomains(host, event);
      case 'domains-end':
        return this.#endDomains(host, event.now);
      case 'agent':
      case 'holds-transfers':
      case 'caught-up':
      case 'alive':
        return;
    }
  }

  /** Forgets what a host has begun to tell: it is removed. */
  forget(hostId: string): void {
    for (const key of this.#listedVolumes.keys())
      if (key.startsWith(`${hostId}/`)) this.#listedVolumes.delete(key);
    this.#listedDomains.delete(hostId);
  }

  /** Forgets, of the next {@link NAMES_AT_ONCE} names, those that no volume has any more. */
  async forgetUnusedNames(): Promise<void> {
    await this.#store.transaction(async ({ volumes }) => {
      this.#namesLooked = (await volumes.forgetUnusedNames(this.#namesLooked, NAMES_AT_ONCE)) ?? 0;
    });
  }

  async #forgetPoolsBut(host: ToldHost, pools: readonly string[]): Promise<void> {
    const there = new Set(pools);
    const known = await this.#store.pools.namesOf(host.id);
    // Pools of a host are only added by its own events, which are applied one after the other.
    if (known.every((name) => there.has(name))) return;
    await this.#events.write(async (transaction) => {
      const gone = (await transaction.pools.namesOf(host.id)).filter((name) => !there.has(name));
      const changes: Change[] = [];
      for (const name of gone) changes.push(...(await forgetPool(transaction, host, name)));
      return changes;
    });
  }

  async #applyPool(host: ToldHost, pool: Pool): Promise<void> {
    // After a restart of the controller most are as they were: that takes no turn of a writer.
    if (await this.#store.pools.isSame(host.id, pool)) return;
    await this.#events.write(async ({ pools }) => {
      const names = await pools.namesOf(host.id);
      if (names.length >= MOST_POOLS && !names.includes(pool.name)) throw tooMany('pools', MOST_POOLS);
      const isChanged = await pools.put(host.id, pool);
      return isChanged ? [{ type: 'pool', host: host.name, pool: pool.name }] : [];
    });
  }

  /** One page of volumes. Of what was known so already nobody is told. */
  async #applyVolumes(
    host: ToldHost,
    { pool, volumes, gone, now }: Extract<AgentEvent, { type: 'volumes' }>,
  ): Promise<void> {
    refuseLarge(volumes, MOST_CHARACTERS_A_VOLUME);
    const listing = this.#listedVolumes.get(`${host.id}/${pool}`);
    for (const { name } of volumes) listing?.add(name);
    for (const { name } of gone) listing?.delete(name);
    const isNews = volumes.length + gone.length > 0;
    if (!isNews && isDeepStrictEqual((await this.#store.pools.known(host.id))[pool], now)) return;
    await this.#events.write(async (transaction) => {
      // Of a pool that nobody has told of nothing is kept.
      if (!(await transaction.pools.isKnown(host.id, pool))) return [];
      const names: string[] = [];
      for (const { name, id } of gone)
        if (await transaction.volumes.remove(host.id, pool, name, id)) names.push(name);
      names.push(...(await transaction.volumes.put(host, pool, volumes)));
      if (volumes.length > 0 && (await transaction.pools.volumesOf(host.id)) > MOST_VOLUMES)
        throw tooMany('volumes', MOST_VOLUMES);
      if (now && !listing) await transaction.pools.setKnown(host.id, pool, now);
      return names.map((volume) => ({ type: 'volume', host: host.name, pool, volume }));
    });
  }

  /** Everything was listed: what was not is not there. */
  async #endVolumes(host: ToldHost, pool: string, now: KnownPool): Promise<void> {
    const listed = ended(this.#listedVolumes, `${host.id}/${pool}`);
    await this.#events.write(async (transaction) => {
      const all = await transaction.volumes.namesOf(host.id, pool);
      const missing = all.filter((name) => !listed.has(name));
      await transaction.volumes.removeNamed(host.id, pool, missing);
      await transaction.pools.setKnown(host.id, pool, now);
      return missing.map((volume) => ({ type: 'volume', host: host.name, pool, volume }));
    });
  }

  /** One page of domains. Of what was known so already nobody is told. */
  async #applyDomains(
    host: ToldHost,
    { domains, gone, now }: Extract<AgentEvent, { type: 'domains' }>,
  ): Promise<void> {
    refuseLarge(domains, MOST_CHARACTERS_A_DOMAIN);
    const listing = this.#listedDomains.get(host.id);
    for (const domain of domains) listing?.add(keyText(domain));
    for (const key of gone) listing?.delete(keyText(key));
    await this.#events.write(async (transaction) => {
      const changed: DomainKey[] = [];
      for (const key of gone) if (await transaction.domains.remove(host.id, key)) changed.push(key);
      changed.push(...(await transaction.domains.put(host, domains)));
      if (domains.length > 0 && (await transaction.domains.countOf(host.id)) > MOST_DOMAINS)
        throw tooMany('domains', MOST_DOMAINS);
      if (now !== undefined && !listing) await transaction.domains.setKnown(host.id, now);
      return changesOf(host, changed);
    });
  }

  async #endDomains(host: ToldHost, now: string): Promise<void> {
    const listed = ended(this.#listedDomains, host.id);
    await this.#events.write(async (transaction) => {
      const all = await transaction.domains.keysOf(host.id);
      const missing = all.filter((key) => !listed.has(keyText(key)));
      for (const key of missing) await transaction.domains.remove(host.id, key);
      await transaction.domains.setKnown(host.id, now);
      return changesOf(host, missing);
    });
  }
}

/** Throws `stream-corrupt`. */
function refuseLarge(all: readonly { name: string }[], most: number): void {
  const large = all.find((each) => JSON.stringify(each).length > most);
  if (large)
    throw new StowageError('stream-corrupt', `what the agent tells of '${cut(large.name, 60)}' is too long`);
}

const tooMany = (what: string, most: number): StowageError =>
  new StowageError('stream-corrupt', `the agent tells of more than ${most} ${what}`);

/** What was listed. Throws `stream-corrupt` when no listing was begun. */
function ended(listings: Map<string, Set<string>>, key: string): Set<string> {
  const listed = listings.get(key);
  listings.delete(key);
  if (!listed) throw new StowageError('stream-corrupt', 'the agent ended a list that it had not begun');
  return listed;
}

async function forgetPool({ pools }: Transaction, host: ToldHost, pool: string): Promise<Change[]> {
  await pools.remove(host.id, pool);
  return [{ type: 'pool', host: host.name, pool }];
}
