import { type AliasableExpression, type Expression, type Kysely, type SqlBool, sql } from 'kysely';
import type { Volume } from '../../../shared/conf/volume.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import { hasPart, indexedRun, volumesWithPart } from '../name-parts.ts';
import type { Database, VolumeRow } from '../schema.ts';
import { inScopes } from '../scopes.ts';

export interface VolumeFilter {
  host?: string;
  pool?: string;
  name?: string;
  id?: string;
  /** Linked clones of the volume of this id. */
  parentId?: string;
  format?: string;
  /** A part of the name; letters of ASCII in either case. */
  search?: string;
  /** Name of a domain that uses it. */
  user?: string;
  /** ms since the epoch; of those whose storage tells nothing of it none is in the list then. */
  modifiedBefore?: number;
  modifiedAfter?: number;
  scopes?: readonly string[];
  /** At most this many, those after `after` (`host/pool/volume`). */
  limit: number;
  after?: string;
}

/** What was parsed by its schema when it came in. */
const volumeOf = ({ host, pool, details }: Pick<VolumeRow, 'host' | 'pool' | 'details'>): FleetVolume => ({
  host,
  pool,
  ...(JSON.parse(details) as Volume),
});

/** A name may have slashes in it: agents are believed much. */
function placeOf(text: string): { host: string; pool: string; name: string } {
  const [host = '', pool = '', ...name] = text.split('/');
  return { host, pool, name: name.join('/') };
}

/** Most names of one statement. */
const NAMES = 500;
/** So many are sorted for one page. */
const FEW = 5000;
/** So many are looked at before others get a turn. */
const WALKED = 10_000;

type Places = AliasableExpression<{ host: string; pool: string; name: string }>;

/** A condition that may leave few of very many volumes. */
interface Selection {
  matches: Expression<SqlBool>;
  /** The places of at most so many of the volumes that match, by an index. */
  places(most: number): Places;
}

export class VolumeReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /**
   * By host, pool and name; a page is found by its key, so that the last costs what the first does. If a condition matches
   * at most {@link FEW} volumes, the query starts from those; else it walks in the order of places, {@link WALKED} at a
   * time, so that a condition that hardly any volume meets holds up nobody.
   */
  async list(filter: VolumeFilter): Promise<FleetVolume[]> {
    const selections = this.#selections(filter);
    const matches = selections.map((selection) => selection.matches);
    const few = await this.#few(selections);
    if (few) return this.#listFrom(few, filter, matches);
    if (selections.length === 0) return this.#listInOrder(filter, filter.limit, matches);
    const found: FleetVolume[] = [];
    for (let after = filter.after; found.length < filter.limit; ) {
      const part = { ...filter, after };
      const end = await this.#placeBehind(part);
      found.push(...(await this.#listInOrder(part, filter.limit - found.length, matches, end)));
      if (end === undefined) break;
      after = end;
      await new Promise(setImmediate);
    }
    return found;
  }

  async #listFrom(few: Places, filter: VolumeFilter, matches: Expression<SqlBool>[]): Promise<FleetVolume[]> {
    let query = this.#matching(filter).select(['volumes.host', 'volumes.pool', 'volumes.details']);
    for (const isMatch of matches) query = query.where(isMatch);
    const rows = await query
      .innerJoin(few.as('found'), (join) =>
        join
          .onRef('found.host', '=', 'volumes.host')
          .onRef('found.pool', '=', 'volumes.pool')
          .onRef('found.name', '=', 'volumes.name'),
      )
      .orderBy('found.host')
      .orderBy('found.pool')
      .orderBy('found.name')
      .limit(filter.limit)
      .execute();
    return rows.map(volumeOf);
  }

  /** Up to and with the place `end`. */
  async #listInOrder(
    filter: VolumeFilter,
    limit: number,
    matches: Expression<SqlBool>[],
    end?: string,
  ): Promise<FleetVolume[]> {
    let query = this.#matching(filter).select(['volumes.host', 'volumes.pool', 'volumes.details']);
    for (const isMatch of matches) query = query.where(isMatch);
    if (end !== undefined) {
      const { host, pool, name } = placeOf(end);
      query = query.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('volumes.host', 'volumes.pool', 'volumes.name'), '<=', tuple(host, pool, name)),
      );
    }
    const rows = await query
      .orderBy('volumes.host')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(limit)
      .execute();
    return rows.map(volumeOf);
  }

  /** The place of the last of the next {@link WALKED} volumes; undefined where there are not so many. */
  async #placeBehind(filter: VolumeFilter): Promise<string | undefined> {
    const row = await this.#matching(filter)
      .select(['volumes.host', 'volumes.pool', 'volumes.name'])
      .orderBy('volumes.host')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(1)
      .offset(WALKED - 1)
      .executeTakeFirst();
    return row && `${row.host}/${row.pool}/${row.name}`;
  }

  #selections({ search, user, modifiedBefore, modifiedAfter }: VolumeFilter): Selection[] {
    const { db } = this;
    const volumes = db.selectFrom('volumes').select(['volumes.host', 'volumes.pool', 'volumes.name']);
    const selections: Selection[] = [];
    if (user !== undefined) {
      const uses = db.selectFrom('domain_uses').where('domain', '=', user);
      selections.push({
        matches: sql<SqlBool>`(volumes.host, volumes.pool, volumes.name) IN ${uses.select(['host', 'pool', 'volume'])}`,
        places: (most) => uses.select(['host', 'pool', 'volume as name']).distinct().limit(most),
      });
    }
    if (search !== undefined) {
      const run = indexedRun(search);
      selections.push({
        matches: hasPart(db, 'volumes.name', search),
        places: (most) =>
          // A part that is too short for the index is in very many names.
          (run === undefined ? volumes : volumesWithPart(db, search, run)).limit(most),
      });
    }
    for (const isOfAge of [
      modifiedBefore === undefined ? undefined : sql`< ${modifiedBefore}`,
      modifiedAfter === undefined ? undefined : sql`> ${modifiedAfter}`,
    ])
      if (isOfAge)
        selections.push({
          // The sign keeps a query in the order of places from using the index of ages, and then sorting.
          matches: sql<SqlBool>`+volumes.modified_at ${isOfAge}`,
          places: (most) => volumes.where(sql<SqlBool>`volumes.modified_at ${isOfAge}`).limit(most),
        });
    return selections;
  }

  /** The places of the first condition that leaves few. */
  async #few(selections: readonly Selection[]): Promise<Places | undefined> {
    for (const { places } of selections) {
      const { count } = await this.db
        .selectFrom(places(FEW + 1).as('some'))
        .select(({ fn }) => fn.countAll().as('count'))
        .executeTakeFirstOrThrow();
      if (Number(count) <= FEW) return places(FEW);
    }
    return undefined;
  }

  #matching(filter: VolumeFilter) {
    let query = this.db.selectFrom('volumes');
    if (filter.host !== undefined) query = query.where('volumes.host', '=', filter.host);
    if (filter.pool !== undefined) query = query.where('volumes.pool', '=', filter.pool);
    if (filter.name !== undefined) query = query.where('volumes.name', '=', filter.name);
    if (filter.id !== undefined) query = query.where('volumes.id', '=', filter.id);
    if (filter.parentId !== undefined) query = query.where('volumes.parent_id', '=', filter.parentId);
    if (filter.format !== undefined) query = query.where('volumes.format', '=', filter.format);
    const { scopes = [] } = filter;
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'volumes.host', pool: 'volumes.pool' }));
    if (filter.after !== undefined) {
      const { host, pool, name } = placeOf(filter.after);
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
    return query;
  }

  async find(host: string, pool: string, name: string): Promise<FleetVolume | undefined> {
    const [found] = await this.list({ host, pool, name, limit: 1 });
    return found;
  }

  /** Of those that are known, each once. */
  async namesByIds(ids: readonly string[]): Promise<Map<string, string>> {
    const names = new Map<string, string>();
    for (let from = 0; from < ids.length; from += NAMES) {
      const rows = await this.db
        .selectFrom('volumes')
        .select(['id', 'name'])
        .where('id', 'in', ids.slice(from, from + NAMES))
        .execute();
      for (const { id, name } of rows) names.set(id, name);
    }
    return names;
  }

  async namesOf(hostId: string, pool: string): Promise<string[]> {
    const rows = await this.db
      .selectFrom('volumes')
      .select('name')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .execute();
    return rows.map(({ name }) => name);
  }
}

export class VolumeWriter extends VolumeReader {
  /** Puts volumes in their places and gives the names of those that are new or differ from what was there. */
  async put(
    { id, name: host }: { id: string; name: string },
    pool: string,
    volumes: readonly Volume[],
  ): Promise<string[]> {
    // An agent may name one twice: the last word counts.
    const last = new Map(volumes.map((volume) => [volume.name, volume]));
    if (last.size === 0) return [];
    const rows = [...last.values()].map((volume) => rowOf(id, host, pool, volume));
    const made = new Set(await this.#insert(id, pool, rows));
    const others = rows.filter(({ name }) => !made.has(name));
    return [...made, ...(others.length === 0 ? [] : await this.#update(others))];
  }

  /** Gives the names of those that were not there. */
  async #insert(hostId: string, pool: string, rows: readonly VolumeRow[]): Promise<string[]> {
    const made = await this.db
      .insertInto('volumes')
      .values(rows)
      .onConflict((conflict) => conflict.columns(['host_id', 'pool', 'name']).doNothing())
      .returning('volumes.name')
      .execute();
    if (made.length === 0) return [];
    await this.db
      .insertInto('volume_names')
      .values(made)
      .onConflict((conflict) => conflict.column('name').doNothing())
      .execute();
    await this.#count(hostId, pool, made.length);
    return made.map(({ name }) => name);
  }

  /** Gives the names of those that differ from what was there. */
  async #update(rows: readonly VolumeRow[]): Promise<string[]> {
    const changed = await this.db
      .insertInto('volumes')
      .values(rows)
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
            modified_at: ref('excluded.modified_at'),
            parent_id: ref('excluded.parent_id'),
            details: ref('excluded.details'),
          }))
          .whereRef('volumes.details', 'is distinct from', 'excluded.details'),
      )
      .returning('volumes.name')
      .execute();
    return changed.map(({ name }) => name);
  }

  /** How many a pool has, so that nobody needs to count. */
  async #count(hostId: string, pool: string, more: number): Promise<void> {
    if (more === 0) return;
    await this.db
      .updateTable('pools')
      .set(({ eb }) => ({ volume_count: eb('volume_count', '+', more) }))
      .where('host_id', '=', hostId)
      .where('name', '=', pool)
      .execute();
  }

  /** Whether a volume of this name and id was there. */
  async remove(hostId: string, pool: string, name: string, id: string): Promise<boolean> {
    const { numDeletedRows } = await this.db
      .deleteFrom('volumes')
      .where('host_id', '=', hostId)
      .where('pool', '=', pool)
      .where('name', '=', name)
      .where('id', '=', id)
      .executeTakeFirst();
    await this.#count(hostId, pool, -Number(numDeletedRows));
    return numDeletedRows > 0n;
  }

  async removeNamed(hostId: string, pool: string, names: readonly string[]): Promise<void> {
    for (let from = 0; from < names.length; from += NAMES) {
      const { numDeletedRows } = await this.db
        .deleteFrom('volumes')
        .where('host_id', '=', hostId)
        .where('pool', '=', pool)
        .where('name', 'in', names.slice(from, from + NAMES))
        .executeTakeFirst();
      await this.#count(hostId, pool, -Number(numDeletedRows));
    }
  }

  /** Looks at the `most` names after one and forgets those that no volume has. Gives where to go on; undefined at the end. */
  async forgetUnusedNames(after: number, most: number): Promise<number | undefined> {
    const rows = await this.db
      .selectFrom('volume_names')
      .select([
        'id',
        ({ exists, selectFrom }) =>
          exists(
            selectFrom('volumes').select('volumes.id').whereRef('volumes.name', '=', 'volume_names.name'),
          ).as('used'),
      ])
      .where('id', '>', after)
      .orderBy('id')
      .limit(most)
      .execute();
    const unused = rows.filter(({ used }) => !used).map(({ id }) => id);
    if (unused.length > 0) await this.db.deleteFrom('volume_names').where('id', 'in', unused).execute();
    return rows.length < most ? undefined : rows.at(-1)!.id;
  }
}

function modifiedAt({ timestamps }: Volume): number | null {
  const time = timestamps && Math.floor(Number(timestamps.mtime) * 1000);
  return time !== undefined && Number.isSafeInteger(time) ? time : null;
}

function rowOf(hostId: string, host: string, pool: string, volume: Volume): VolumeRow {
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
    modified_at: modifiedAt(volume),
    parent_id: volume.parentId ?? null,
    details: JSON.stringify(volume),
  };
}
