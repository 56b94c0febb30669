import { chmodSync } from 'node:fs';
import Database from 'better-sqlite3';

/** Copies a SQLite store as it is at one moment, whoever writes to it meanwhile. The copy is one file, durable when this settles. */
export async function copySqlite(from: string, to: string): Promise<void> {
  const source = new Database(from, { readonly: true, fileMustExist: true });
  try {
    await source.backup(to);
  } finally {
    source.close();
  }
  // It has the hashes of passwords and tokens.
  chmodSync(to, 0o600);
  settleSqlite(to);
}

/** Makes one file of a store that nobody works with: a log beside it would be forgotten by whoever moves the file. */
export function settleSqlite(path: string): void {
  const database = new Database(path);
  database.pragma('journal_mode = DELETE');
  database.close();
}
