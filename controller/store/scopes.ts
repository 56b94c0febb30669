import { type Expression, type ExpressionBuilder, type SqlBool, sql } from 'kysely';

/** The columns of a table that say where in the fleet a row belongs. */
interface PlaceColumns<Table extends string> {
  host: `${Table}.${string}`;
  pool?: `${Table}.${string}`;
}

/** Whole hosts, of which there may be very many, and pools. */
function split(scopes: readonly string[]): { hosts: string[]; pools: [string, string][] } {
  const hosts: string[] = [];
  const pools: [string, string][] = [];
  for (const scope of scopes) {
    const [host = '', pool] = scope.split('/');
    if (pool === undefined) hosts.push(host);
    else pools.push([host, pool]);
  }
  return { hosts, pools };
}

/**
 * Rows that lie in one of the scopes (`HOST` or `HOST/POOL`). A row of a table without pools, such as a host, is in the scope
 * of each of its pools.
 */
export function inScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  { host, pool }: PlaceColumns<string>,
): Expression<SqlBool> {
  const column = (name: string) => eb.ref(name as never);
  const { hosts, pools } = split(scopes);
  const whole = pool === undefined ? [...hosts, ...pools.map(([each]) => each)] : hosts;
  return eb.or([
    ...(whole.length > 0 ? [eb(column(host), 'in', whole as never)] : []),
    ...(pool === undefined
      ? []
      : pools.map(([ofHost, name]) =>
          eb.and([eb(column(host), '=', ofHost as never), eb(column(pool), '=', name as never)]),
        )),
  ]);
}

/** Rows whose place, written `HOST/POOL/VOLUME` in one column, lies in one of the scopes. */
export function placeInScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  name: string,
): Expression<SqlBool> {
  const column = eb.ref(name as never);
  const { hosts, pools } = split(scopes);
  // What comes before the first slash, in the words that SQLite and PostgreSQL share.
  const host = sql<string>`substr(${column}, 1, length(${column}) - length(ltrim(${column}, replace(${column}, '/', ''))))`;
  return eb.or([
    ...(hosts.length > 0 ? [eb(host, 'in', hosts)] : []),
    ...pools.map(([ofHost, pool]) =>
      eb.or([
        eb(column, '=', `${ofHost}/${pool}` as never),
        // '0' is what comes behind '/'.
        eb.and([
          eb(column, '>', `${ofHost}/${pool}/` as never),
          eb(column, '<', `${ofHost}/${pool}0` as never),
        ]),
      ]),
    ),
  ]);
}
