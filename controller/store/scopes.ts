import { type Expression, type ExpressionBuilder, type RawBuilder, type SqlBool, sql } from 'kysely';

/** Parts of the fleet, sorted by their kind. */
interface Scopes {
  hosts: string[];
  pools: { host: string; pool: string }[];
  labels: string[];
}

function sorted(scopes: readonly string[]): Scopes {
  const found: Scopes = { hosts: [], pools: [], labels: [] };
  for (const scope of scopes) {
    const [host = '', pool] = scope.split('/');
    if (scope.startsWith('@')) found.labels.push(scope.slice(1));
    else if (pool === undefined) found.hosts.push(host);
    else found.pools.push({ host, pool });
  }
  return found;
}

/** Whether a host, told by its name, is one of these or has one of these labels. */
function isHost(
  host: Expression<unknown>,
  { hosts, labels }: Pick<Scopes, 'hosts' | 'labels'>,
): Expression<SqlBool>[] {
  const conditions: Expression<SqlBool>[] = [];
  if (hosts.length > 0) conditions.push(sql<SqlBool>`${host} IN (${sql.join(hosts)})`);
  if (labels.length > 0)
    conditions.push(
      sql<SqlBool>`${host} IN (SELECT labelled.host FROM host_labels AS labelled WHERE labelled.label IN (${sql.join(labels)}))`,
    );
  return conditions;
}

/** The columns of a table that say where in the fleet a row belongs. */
interface PlaceColumns {
  host: string;
  pool?: string;
}

/**
 * Rows that lie in one of the scopes (`HOST`, `HOST/POOL` or `@LABEL`). A row of a table without pools, such as a host, is in
 * the scope of each of its pools.
 */
export function inScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  { host, pool }: PlaceColumns,
): Expression<SqlBool> {
  const { hosts, pools, labels } = sorted(scopes);
  if (pool === undefined)
    return eb.or(isHost(sql.ref(host), { hosts: [...hosts, ...pools.map((each) => each.host)], labels }));
  return eb.or([
    ...isHost(sql.ref(host), { hosts, labels }),
    ...pools.map(
      (each) => sql<SqlBool>`(${sql.ref(host)} = ${each.host} AND ${sql.ref(pool)} = ${each.pool})`,
    ),
  ]);
}

/**
 * The host of a place, written `HOST/POOL/VOLUME` in one column: what comes before the first slash, in the words that SQLite
 * and PostgreSQL share. The indexes `audit_host` and `jobs_host` are over the same text.
 */
export const hostOfPlace = (column: string): RawBuilder<string> =>
  sql<string>`substr(${sql.ref(column)}, 1, length(${sql.ref(column)}) - length(ltrim(${sql.ref(column)}, replace(${sql.ref(column)}, '/', ''))))`;

/** Rows whose place, written `HOST/POOL/VOLUME` in one column, lies in one of the scopes. */
export function placeInScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  column: string,
): Expression<SqlBool> {
  const { hosts, pools, labels } = sorted(scopes);
  const place = sql.ref(column);
  return eb.or([
    ...isHost(hostOfPlace(column), { hosts, labels }),
    ...pools.map(
      // '0' is what comes behind '/'.
      ({ host, pool }) =>
        sql<SqlBool>`(${place} = ${`${host}/${pool}`} OR (${place} > ${`${host}/${pool}/`} AND ${place} < ${`${host}/${pool}0`}))`,
    ),
  ]);
}
