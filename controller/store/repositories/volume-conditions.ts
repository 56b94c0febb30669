import { type AliasableExpression, type Expression, type Kysely, type SqlBool, sql } from 'kysely';
import { hasPart, indexedRun, volumesWithPart } from '../name-parts.ts';
import type { Database } from '../schema.ts';
import { inScopes } from '../scopes.ts';

export interface VolumeFilter {
  host?: string;
  pool?: string;
  name?: string;
  id?: string;
  /** Linked clones of the volume of this id. */
  parentId?: string;
  /** Encrypted with the secret of this id. */
  secretId?: string;
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

/** A name may have slashes in it: agents are believed much. */
export function placeOf(text: string): { host: string; pool: string; name: string } {
  const [host = '', pool = '', ...name] = text.split('/');
  return { host, pool, name: name.join('/') };
}

/** So many are sorted for one page. */
export const FEW = 5000;

export type Places = AliasableExpression<{ host: string; pool: string; name: string }>;

/** A condition that may leave few of very many volumes. */
interface Selection {
  matches: Expression<SqlBool>;
  /** The places of at most so many of the volumes that match, by an index. */
  places(most: number): Places;
}

/** The conditions of a filter that may leave few volumes. */
export function selectionsOf(
  db: Kysely<Database>,
  { search, user, modifiedBefore, modifiedAfter }: VolumeFilter,
): Selection[] {
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
    modifiedBefore === undefined ? undefined : sql`BETWEEN 1 AND ${modifiedBefore - 1}`,
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
export async function fewOf(
  db: Kysely<Database>,
  selections: readonly Pick<Selection, 'places'>[],
): Promise<Places | undefined> {
  for (const { places } of selections) {
    const { count } = await db
      .selectFrom(places(FEW + 1).as('some'))
      .select(({ fn }) => fn.countAll().as('count'))
      .executeTakeFirstOrThrow();
    if (Number(count) <= FEW) return places(FEW);
  }
  return undefined;
}

/** The volumes behind a place, with the conditions of a filter that are columns. */
export function volumesIn(db: Kysely<Database>, filter: VolumeFilter) {
  let query = db.selectFrom('volumes');
  if (filter.host !== undefined) query = query.where('volumes.host', '=', filter.host);
  if (filter.pool !== undefined) query = query.where('volumes.pool', '=', filter.pool);
  if (filter.name !== undefined) query = query.where('volumes.name', '=', filter.name);
  if (filter.id !== undefined) query = query.where('volumes.id', '=', filter.id);
  if (filter.parentId !== undefined) query = query.where('volumes.parent_id', '=', filter.parentId);
  if (filter.secretId !== undefined) query = query.where('volumes.secret_id', '=', filter.secretId);
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
