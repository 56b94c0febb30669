import { type ColumnDefinitionBuilder, type Kysely, PostgresAdapter, type RawBuilder, sql } from 'kysely';

interface ColumnTypes {
  /** Compared byte by byte, as a page of a list is found by its key. */
  text: 'text' | RawBuilder<unknown>;
  /** A primary key that the store numbers, upwards. */
  id: { type: 'integer' | 'bigserial'; build(column: ColumnDefinitionBuilder): ColumnDefinitionBuilder };
  /** Of such a key in another table. */
  reference: 'integer' | 'bigint';
}

export const isPostgres = (db: Kysely<unknown>): boolean =>
  db.getExecutor().adapter instanceof PostgresAdapter;

/** How a store calls the types of columns that SQLite and PostgreSQL call differently. */
export function columnTypes(db: Kysely<unknown>): ColumnTypes {
  return isPostgres(db)
    ? {
        text: sql`text collate "C"`,
        id: { type: 'bigserial', build: (column) => column.primaryKey() },
        reference: 'bigint',
      }
    : {
        text: 'text',
        id: { type: 'integer', build: (column) => column.primaryKey().autoIncrement() },
        reference: 'integer',
      };
}
