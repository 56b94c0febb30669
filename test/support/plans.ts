import { type Kysely, sql } from 'kysely';
import type { Database } from '../../controller/store/schema.ts';

/** How SQLite does what some work asks of a store, a line for each query. */
export async function plansOf(
  db: Kysely<Database>,
  work: (db: Kysely<Database>) => Promise<unknown>,
): Promise<string[]> {
  const base = db.getExecutor();
  const seen: { sql: string; parameters: readonly unknown[] }[] = [];
  await work(
    db.withPlugin({
      transformQuery: ({ node, queryId }) => {
        const compiled = base.compileQuery(node, queryId);
        seen.push({ sql: compiled.sql, parameters: compiled.parameters });
        return node;
      },
      transformResult: async ({ result }) => result,
    }),
  );
  const plans: string[] = [];
  for (const { sql: text, parameters } of seen) {
    let index = 0;
    const filled = text.replaceAll('?', () => {
      const value = parameters[index++];
      return typeof value === 'number' ? String(value) : `'${value}'`;
    });
    const { rows } = await sql.raw<{ detail: string }>(`EXPLAIN QUERY PLAN ${filled}`).execute(db);
    plans.push(rows.map(({ detail }) => detail).join('; '));
  }
  return plans;
}
