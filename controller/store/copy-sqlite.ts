import { chmodSync, closeSync, fsyncSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';

/** Copies a SQLite store as it is at one moment, whoever writes to it meanwhile. The copy is one file, durable when this returns; it takes as long as it takes to read all. */
export function copySqlite(from: string, to: string): void {
  const source = new Database(from, { readonly: true, fileMustExist: true });
  try {
    // One snapshot: SQLite's own backup begins again with each write of somebody else, and so never ends on a busy store.
    source.prepare('VACUUM INTO ?').run(to);
  } finally {
    source.close();
  }
  // It has the hashes of passwords and tokens.
  chmodSync(to, 0o600);
  settleSqlite(to);
  const descriptor = openSync(to, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}

/** Makes one file of a store that nobody works with: a log beside it would be forgotten by whoever moves the file. */
export function settleSqlite(path: string): void {
  const database = new Database(path);
  database.pragma('journal_mode = DELETE');
  database.close();
}
