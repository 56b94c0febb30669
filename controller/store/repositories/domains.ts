import type { Kysely } from 'kysely';
import type { FleetDomain } from '../../../shared/protocol/api.ts';
import type { DomainKey, DomainPlace, HostDomain, VolumeUser } from '../../../shared/protocol/domains.ts';
import type { Database, DomainRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

export interface DomainFilter {
  host?: string;
  /** `HOST` or `@LABEL`. */
  scopes?: readonly string[];
  name?: string;
  origin?: HostDomain['origin'];
  /** At most this many, those after `after`. */
  limit: number;
  after?: DomainPlace;
}

/** Hosts whose domains are looked through before others get a turn. */
const HOSTS = 100;

/** Most rows of one statement. */
const ROWS = 500;

/** What was parsed by its schema when it came in. */
const domainOf = ({ host, details }: Pick<DomainRow, 'host' | 'details'>): FleetDomain => ({
  host,
  ...(JSON.parse(details) as HostDomain),
});

export class DomainReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** By host and name. */
  async list({ host, scopes = [], name, origin, limit, after }: DomainFilter): Promise<FleetDomain[]> {
    let query = this.db.selectFrom('domains').select(['host', 'details']);
    if (host !== undefined) query = query.where('host', '=', host);
    if (scopes.length > 0) query = query.where((eb) => inScopes(eb, scopes, { host: 'domains.host' }));
    if (name !== undefined) query = query.where('name', '=', name);
    if (origin !== undefined) query = query.where('origin', '=', origin);
    if (after !== undefined) {
      const { uuid = '' } = after;
      query = query.where(({ eb, refTuple, tuple }) =>
        eb(
          refTuple('host', 'name', 'origin', 'uuid'),
          '>',
          tuple(after.host, after.name, after.origin, uuid),
        ),
      );
    }
    const rows = await query
      .orderBy('host')
      .orderBy('name')
      .orderBy('origin')
      .orderBy('uuid')
      .limit(limit)
      .execute();
    return rows.map(domainOf);
  }

  /** The documents of the domains that have a text in them, which has no wildcards. */
  async *mentioning(text: string): AsyncGenerator<string[]> {
    for (let after = ''; ; ) {
      const hosts = await this.db
        .selectFrom('domains')
        .select('host')
        .distinct()
        .where('host', '>', after)
        .orderBy('host')
        .limit(HOSTS)
        .execute();
      const last = hosts.at(-1)?.host;
      if (last === undefined) return;
      const rows = await this.db
        .selectFrom('domains')
        .select('details')
        .where('host', '>', after)
        .where('host', '<=', last)
        .where('details', 'like', `%${text}%`)
        .execute();
      yield rows.map(({ details }) => details);
      after = last;
      await new Promise(setImmediate);
    }
  }

  /** The one of this name and UUID; of those without one, the one of this name. */
  async find(host: string, { origin, name, uuid = '' }: DomainKey): Promise<FleetDomain | undefined> {
    const row = await this.db
      .selectFrom('domains')
      .select(['host', 'details'])
      .where('host', '=', host)
      .where('name', '=', name)
      .where('origin', '=', origin)
      .where('uuid', '=', uuid)
      .executeTakeFirst();
    return row && domainOf(row);
  }

  /** The one of this name that was defined in Stowage. */
  async findOwn(host: string, name: string): Promise<FleetDomain | undefined> {
    const [found] = await this.list({ host, name, origin: 'stowage', limit: 1 });
    return found;
  }

  async countOf(hostId: string): Promise<number> {
    const { count } = await this.db
      .selectFrom('domains')
      .select(({ fn }) => fn.countAll().as('count'))
      .where('host_id', '=', hostId)
      .executeTakeFirstOrThrow();
    return Number(count);
  }

  /** Who uses a volume, as its host last told; undefined for a host that has not told its domains yet. */
  async usersOf(host: string, pool: string, volume: string): Promise<VolumeUser[] | undefined> {
    const told = await this.db
      .selectFrom('hosts')
      .select('id')
      .where('name', '=', host)
      .where('domains_known', 'is not', null)
      .executeTakeFirst();
    if (!told) return undefined;
    const rows = await this.db
      .selectFrom('domain_uses as use')
      .innerJoin('domains', (join) =>
        join
          .onRef('domains.host_id', '=', 'use.host_id')
          .onRef('domains.origin', '=', 'use.origin')
          .onRef('domains.name', '=', 'use.domain')
          .onRef('domains.uuid', '=', 'use.uuid'),
      )
      .select(['domains.host', 'domains.details'])
      .where('use.host_id', '=', told.id)
      .where('use.pool', '=', pool)
      .where('use.volume', '=', volume)
      .execute();
    return rows
      .map(domainOf)
      .flatMap(({ name: domain, uuid, origin, state, uses = [] }) =>
        uses
          .filter((use) => use.pool === pool && use.volume === volume)
          .map(({ target, role, through }) => ({ domain, uuid, origin, state, target, role, through })),
      );
  }

  async keysOf(hostId: string): Promise<DomainKey[]> {
    const rows = await this.db
      .selectFrom('domains')
      .select(['origin', 'name', 'uuid'])
      .where('host_id', '=', hostId)
      .execute();
    return rows.map(({ origin, name, uuid }) => ({ origin, name, uuid: uuid === '' ? undefined : uuid }));
  }

  /** Which state of a host's domains was told. */
  async known(hostId: string): Promise<string | undefined> {
    const row = await this.db
      .selectFrom('hosts')
      .select('domains_known')
      .where('id', '=', hostId)
      .executeTakeFirst();
    return row?.domains_known ?? undefined;
  }
}

export class DomainWriter extends DomainReader {
  /** Gives those that are new or differ from what was there. */
  async put(
    { id, name: host }: { id: string; name: string },
    domains: readonly HostDomain[],
  ): Promise<DomainKey[]> {
    // An agent may name one twice: the last word counts.
    const rows = new Map(
      domains.map((domain) => {
        const { origin, name, uuid = '', state } = domain;
        const details = JSON.stringify(domain);
        return [
          JSON.stringify([origin, uuid, name]),
          { host_id: id, host, origin, name, uuid, state, details, domain },
        ];
      }),
    );
    if (rows.size === 0) return [];
    const changed = await this.db
      .insertInto('domains')
      .values([...rows.values()].map(({ domain: _, ...row }) => row))
      .onConflict((conflict) =>
        conflict
          .columns(['host_id', 'origin', 'name', 'uuid'])
          .doUpdateSet(({ ref }) => ({ state: ref('excluded.state'), details: ref('excluded.details') }))
          .whereRef('domains.details', 'is distinct from', 'excluded.details'),
      )
      .returning(['domains.origin', 'domains.name', 'domains.uuid'])
      .execute();
    for (const key of changed) {
      await this.#removeUses(id, key);
      const { uses } = rows.get(JSON.stringify([key.origin, key.uuid, key.name]))!.domain;
      const places = new Map(uses.map(({ pool, volume }) => [`${pool}/${volume}`, { pool, volume }]));
      const { name: domain, origin, uuid } = key;
      const all = [...places.values()].map((place) => ({
        host_id: id,
        host,
        origin,
        domain,
        uuid,
        ...place,
      }));
      for (let from = 0; from < all.length; from += ROWS)
        await this.db
          .insertInto('domain_uses')
          .values(all.slice(from, from + ROWS))
          .execute();
    }
    return changed;
  }

  async #removeUses(hostId: string, { origin, name, uuid = '' }: DomainKey): Promise<void> {
    await this.db
      .deleteFrom('domain_uses')
      .where('host_id', '=', hostId)
      .where('origin', '=', origin)
      .where('domain', '=', name)
      .where('uuid', '=', uuid)
      .execute();
  }

  /** Whether it was there. */
  async remove(hostId: string, key: DomainKey): Promise<boolean> {
    await this.#removeUses(hostId, key);
    const { numDeletedRows } = await this.db
      .deleteFrom('domains')
      .where('host_id', '=', hostId)
      .where('origin', '=', key.origin)
      .where('name', '=', key.name)
      .where('uuid', '=', key.uuid ?? '')
      .executeTakeFirst();
    return numDeletedRows > 0n;
  }

  /** In the transaction that makes it so. */
  async setKnown(hostId: string, state: string): Promise<void> {
    await this.db.updateTable('hosts').set({ domains_known: state }).where('id', '=', hostId).execute();
  }
}
