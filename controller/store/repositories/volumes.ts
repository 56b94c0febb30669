import type { Expression, Kysely, SqlBool } from 'kysely';
import type { Volume } from '../../../shared/conf/volume.ts';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import type { Database, VolumeRow } from '../schema.ts';
import {
  fewOf,
  type Places,
  placeOf,
  selectionsOf,
  type VolumeFilter,
  volumesIn,
} from './volume-conditions.ts';

/** What was parsed by its schema when it came in. */
export const volumeOf = ({
  host,
  pool,
  details,
}: Pick<VolumeRow, 'host' | 'pool' | 'details'>): FleetVolume => ({
  host,
  pool,
  ...(JSON.parse(details) as Volume),
});

/** Most names of one statement. */
const NAMES = 500;
/** So many are looked at before others get a turn. */
const WALKED = 10_000;

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
    const selections = selectionsOf(this.db, filter);
    const matches = selections.map((selection) => selection.matches);
    const few = await fewOf(this.db, selections);
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
    let query = volumesIn(this.db, filter).select(['volumes.host', 'volumes.pool', 'volumes.details']);
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
    let query = volumesIn(this.db, filter).select(['volumes.host', 'volumes.pool', 'volumes.details']);
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
    const row = await volumesIn(this.db, filter)
      .select(['volumes.host', 'volumes.pool', 'volumes.name'])
      .orderBy('volumes.host')
      .orderBy('volumes.pool')
      .orderBy('volumes.name')
      .limit(1)
      .offset(WALKED - 1)
      .executeTakeFirst();
    return row && `${row.host}/${row.pool}/${row.name}`;
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
            secret_id: ref('excluded.secret_id'),
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
    modified_at: modifiedAt(volume) ?? 0,
    parent_id: volume.parentId ?? null,
    secret_id: volume.encryption?.secret ?? null,
    details: JSON.stringify(volume),
  };
}
