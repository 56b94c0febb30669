import type { Expression, ExpressionBuilder, SqlBool } from 'kysely';

/** The columns of a table that say where in the fleet a row belongs. */
interface PlaceColumns<Table extends string> {
  host: `${Table}.${string}`;
  pool?: `${Table}.${string}`;
}

/**
 * Rows that lie in one of the scopes (`HOST` or `HOST/POOL`). A row of a table without pools, such as a host, is in the scope
 * of each of its pools.
 */
export function inScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  columns: PlaceColumns<string>,
): Expression<SqlBool> {
  const column = (name: string) => eb.ref(name as never);
  return eb.or(
    scopes.map((scope) => {
      const [host, pool] = scope.split('/');
      const isHost = eb(column(columns.host), '=', host as never);
      return pool === undefined || columns.pool === undefined
        ? isHost
        : eb.and([isHost, eb(column(columns.pool), '=', pool as never)]);
    }),
  );
}

/** Rows whose place, written `HOST/POOL/VOLUME` in one column, lies in one of the scopes. */
export function placeInScopes<DB, TB extends keyof DB>(
  eb: ExpressionBuilder<DB, TB>,
  scopes: readonly string[],
  name: string,
): Expression<SqlBool> {
  const column = eb.ref(name as never);
  return eb.or(
    scopes.map((scope) =>
      eb.or([
        eb(column, '=', scope as never),
        // '0' is what comes behind '/'.
        eb.and([eb(column, '>', `${scope}/` as never), eb(column, '<', `${scope}0` as never)]),
      ]),
    ),
  );
}
