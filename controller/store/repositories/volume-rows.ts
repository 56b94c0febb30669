import { type Kysely, type OrderByExpression, type RawBuilder, type SqlBool, sql } from 'kysely';
import type { FleetVolume } from '../../../shared/protocol/api.ts';
import type { VolumeOrder } from '../../../shared/protocol/lists.ts';
import type { Database } from '../schema.ts';
import { inScopes } from '../scopes.ts';
import { fewOf, type Places, selectionsOf, type VolumeFilter, volumesIn } from './volume-conditions.ts';
import { volumeOf } from './volumes.ts';

/** Part of the volumes that meet a filter, in an order. */
export interface RowsFilter extends Omit<VolumeFilter, 'after'> {
  order: VolumeOrder;
  descending: boolean;
  /** So many are left out before the first. */
  offset: number;
}

/** What comes before the place in an order; each of these has an index. */
const KEYS: Record<VolumeOrder, RawBuilder<unknown>[]> = {
  place: [],
  name: [sql.ref('volumes.name')],
  capacityBytes: [sql.ref('volumes.capacity_bytes')],
  allocationBytes: [sql.ref('volumes.allocation_bytes')],
  modifiedAt: [sql.ref('volumes.modified_at')],
};
const PLACE = ['volumes.host', 'volumes.pool', 'volumes.name'].map((column) => sql.ref(column));

/** About 5 ms on SQLite. */
const BATCH_ROWS = 50_000;

/** The columns of an order: a row has its position by them alone. */
const columnsOf = (order: VolumeOrder): RawBuilder<unknown>[] => [
  ...KEYS[order],
  // The index by names is over `name, host, pool`.
  ...(order === 'name' ? PLACE.slice(0, 2) : PLACE),
];

/** Rows of a table of volumes: from any position, in any order, as one who scrolls asks for them. */
export class VolumeRows {
  readonly #db: Kysely<Database>;
  readonly #batchRows: number;

  /** `batchRows`: rows of an index that are walked before other work gets a turn. */
  constructor(db: Kysely<Database>, batchRows = BATCH_ROWS) {
    this.#db = db;
    this.#batchRows = batchRows;
  }

  /** At most `limit` volumes from the position `offset` on. */
  async list(filter: RowsFilter): Promise<FleetVolume[]> {
    const few = await this.#few(filter);
    if (few) return this.#page({ filter, few, offset: filter.offset, limit: filter.limit });
    const total = this.#isByPlaceOnly(filter) ? await this.#known(filter) : 0;
    // From the nearer end.
    if (filter.offset > total / 2 && total > 0) {
      const end = Math.max(0, total - filter.offset);
      const limit = Math.min(filter.limit, end);
      const offset = end - limit;
      const reversed = { ...filter, descending: !filter.descending, offset, limit };
      const rows = (await this.#walk(reversed)).reverse();
      // Volumes came or went meanwhile: then from the other end.
      if (rows.length === limit && limit > 0) return rows;
    }
    return this.#walk(filter);
  }

  /** How many volumes meet a filter. */
  async count(filter: Omit<RowsFilter, 'order' | 'descending' | 'offset' | 'limit'>): Promise<number> {
    const whole = { ...filter, limit: 1 };
    const few = await this.#few(whole);
    if (few) return this.#countOf(this.#matching(whole, few));
    if (this.#isByPlaceOnly(whole)) return this.#known(whole);
    let count = 0;
    const walked = { ...whole, order: 'place', descending: false, offset: 0 } as const;
    for await (const part of this.#parts(walked))
      count += await this.#countOf(this.#matching(whole).where(part));
    return count;
  }

  /** Whether it is told by places alone, host, pool and scopes: how many those have the pools know. */
  #isByPlaceOnly({
    name,
    id,
    parentId,
    format,
    search,
    user,
    modifiedBefore,
    modifiedAfter,
  }: VolumeFilter): boolean {
    const others = [name, id, parentId, format, search, user, modifiedBefore, modifiedAfter];
    return others.every((each) => each === undefined);
  }

  /** As the pools count. */
  async #known({ host, pool, scopes = [] }: VolumeFilter): Promise<number> {
    let query = this.#db.selectFrom('pools').innerJoin('hosts', 'hosts.id', 'pools.host_id');
    if (host !== undefined) query = query.where('hosts.name', '=', host);
    if (pool !== undefined) query = query.where('pools.name', '=', pool);
    if (scopes.length > 0)
      query = query.where((eb) => inScopes(eb, scopes, { host: 'hosts.name', pool: 'pools.name' }));
    const { count } = await query
      .select(({ fn }) => fn.sum('pools.volume_count').as('count'))
      .executeTakeFirstOrThrow();
    return Number(count ?? 0);
  }

  /** Where a host, a pool or a condition leaves few, the query starts from those. */
  #few(filter: VolumeFilter): Promise<Places | undefined> {
    const { host, pool, name, id, parentId, format } = filter;
    const selections: { places(most: number): Places }[] = [...selectionsOf(this.#db, filter)];
    if ([host, name, id, parentId, format].some((each) => each !== undefined))
      selections.push({
        places: (most) =>
          volumesIn(this.#db, { host, pool, name, id, parentId, format, limit: most })
            .select(['volumes.host', 'volumes.pool', 'volumes.name'])
            .limit(most),
      });
    return fewOf(this.#db, selections);
  }

  #matching({ format, ...filter }: VolumeFilter, few?: Places) {
    let query = volumesIn(this.#db, filter);
    // Written so, it keeps a query in the order of its own index, in which the formats are, too.
    if (format !== undefined) query = query.where(sql<SqlBool>`(volumes.format || '') = ${format}`);
    for (const { matches } of selectionsOf(this.#db, filter)) query = query.where(matches);
    if (!few) return query;
    return query.where(
      sql<SqlBool>`(volumes.host, volumes.pool, volumes.name) IN (SELECT host, pool, name FROM ${few.as('few')})`,
    );
  }

  async #countOf(query: ReturnType<typeof volumesIn>): Promise<number> {
    const { count } = await query.select(({ fn }) => fn.countAll().as('count')).executeTakeFirstOrThrow();
    return Number(count);
  }

  async #page({
    filter,
    few,
    part,
    offset,
    limit,
  }: {
    filter: RowsFilter;
    few?: Places;
    part?: RawBuilder<SqlBool>;
    offset: number;
    limit: number;
  }): Promise<FleetVolume[]> {
    let query = this.#matching(filter, few).select(['volumes.host', 'volumes.pool', 'volumes.details']);
    if (part) query = query.where(part);
    for (const column of columnsOf(filter.order))
      query = query.orderBy(
        column as OrderByExpression<Database, 'volumes', unknown>,
        filter.descending ? 'desc' : 'asc',
      );
    return (await query.limit(limit).offset(offset).execute()).map(volumeOf);
  }

  /** Passes the rows of the index of an order, a part at a time. */
  async #walk(filter: RowsFilter): Promise<FleetVolume[]> {
    const found: FleetVolume[] = [];
    let left = filter.offset;
    const isUnfiltered =
      this.#isByPlaceOnly(filter) && filter.host === undefined && (filter.scopes ?? []).length === 0;
    // No more rows are passed than the first part has: where that ends need not be known.
    if (isUnfiltered && left + filter.limit <= this.#batchRows)
      return this.#page({ filter, offset: left, limit: filter.limit });
    for await (const part of this.#parts(filter)) {
      const limit = filter.limit - found.length;
      if (limit <= 0) break;
      if (left > 0) {
        // What every row meets need not be looked at.
        const passed =
          isUnfiltered && left >= this.#batchRows
            ? this.#batchRows
            : await this.#countOf(this.#matching(filter).where(part));
        if (passed <= left) {
          left -= passed;
          continue;
        }
      }
      found.push(...(await this.#page({ filter, part, offset: left, limit })));
      left = 0;
    }
    return found;
  }

  /** The rows of an order in parts of so many that others get a turn, as conditions; the last one has no end. */
  async *#parts({ order, descending }: RowsFilter): AsyncGenerator<RawBuilder<SqlBool>> {
    const columns = columnsOf(order);
    const row = sql`(${sql.join(columns)})`;
    const [behind, upTo] = descending ? [sql`<`, sql`>=`] : [sql`>`, sql`<=`];
    let begin: RawBuilder<SqlBool> | undefined;
    for (;;) {
      let query = this.#db
        .selectFrom('volumes')
        .select(columns.map((column, index) => (column as RawBuilder<string | number>).as(`c${index}`)));
      if (begin) query = query.where(begin);
      for (const column of columns)
        query = query.orderBy(
          column as OrderByExpression<Database, 'volumes', unknown>,
          descending ? 'desc' : 'asc',
        );
      const end = await query
        .limit(1)
        .offset(this.#batchRows - 1)
        .executeTakeFirst();
      const values = end && sql`(${sql.join(Object.values(end))})`;
      const before: RawBuilder<SqlBool> = begin ?? sql<SqlBool>`1 = 1`;
      yield values ? sql<SqlBool>`${before} AND ${row} ${upTo} ${values}` : before;
      if (!values) return;
      begin = sql<SqlBool>`${row} ${behind} ${values}`;
      await new Promise(setImmediate);
    }
  }
}
