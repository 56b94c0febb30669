import { type Expression, type Kysely, type SqlBool, sql } from 'kysely';
import { isPostgres } from './column-types.ts';
import type { Database } from './schema.ts';

/** The index knows names by all their parts of three characters. */
const SHORTEST_PART = 3;

/**
 * An index of `volume_names` by parts of a name, for the migration that makes the table: SQLite's FTS5, which triggers keep
 * true, or PostgreSQL's pg_trgm. Where that is not to be had names are found too, by looking at all of them.
 */
export async function indexPartsOfNames(db: Kysely<unknown>): Promise<void> {
  if (isPostgres(db)) {
    const { rows } = await sql<{ usable: boolean }>`
      SELECT has_database_privilege(current_database(), 'CREATE') AND EXISTS (
        SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS usable`.execute(db);
    if (!rows[0]?.usable) return;
    await sql`CREATE EXTENSION IF NOT EXISTS pg_trgm`.execute(db);
    await sql`CREATE INDEX volume_names_parts ON volume_names USING gin (name gin_trgm_ops)`.execute(db);
    return;
  }
  await sql`CREATE VIRTUAL TABLE volume_names_parts
    USING fts5 (name, content='volume_names', content_rowid='id', tokenize='trigram', detail='none')`.execute(
    db,
  );
  await sql`CREATE TRIGGER volume_names_insert AFTER INSERT ON volume_names BEGIN
    INSERT INTO volume_names_parts (rowid, name) VALUES (new.id, new.name); END`.execute(db);
  await sql`CREATE TRIGGER volume_names_delete AFTER DELETE ON volume_names BEGIN
    INSERT INTO volume_names_parts (volume_names_parts, rowid, name) VALUES ('delete', old.id, old.name); END`.execute(
    db,
  );
}

/** Whether a name has `part` in it; letters of ASCII in either case. */
export function hasPart(db: Kysely<Database>, name: string, part: string): Expression<SqlBool> {
  return isPostgres(db as never)
    ? sql<SqlBool>`${sql.ref(name)} ILIKE ${`%${part.replaceAll(/[\\%_]/g, '\\$&')}%`}`
    : sql<SqlBool>`instr(lower(${sql.ref(name)}), lower(${part})) > 0`;
}

/** The longest run of characters in a part that is no wildcard of LIKE; undefined for one that no index can lead to. */
export function indexedRun(part: string): string | undefined {
  const [longest = ''] = part.split(/[%_]/).toSorted((left, right) => right.length - left.length);
  return longest.length >= SHORTEST_PART ? longest : undefined;
}

/** The volumes that have `part` in their names, found by the index by a `run` of it. */
export function volumesWithPart(db: Kysely<Database>, part: string, run: string) {
  const isPart = hasPart(db, 'names.name', part);
  if (isPostgres(db as never))
    return db
      .selectFrom('volume_names as names')
      .innerJoin('volumes', 'volumes.name', 'names.name')
      .select(['volumes.host', 'volumes.pool', 'volumes.name'])
      .where(isPart);
  // LIKE is what the index understands, without an escape for its wildcards.
  return db
    .selectFrom('volume_names_parts as names')
    .innerJoin('volumes', 'volumes.name', 'names.name')
    .select(['volumes.host', 'volumes.pool', 'volumes.name'])
    .where('names.name', 'like', `%${run}%`)
    .where(isPart);
}
