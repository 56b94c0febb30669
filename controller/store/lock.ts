import { join } from 'node:path';
import Database from 'better-sqlite3';
import { StowageError } from '../../shared/util/errors.ts';

/**
 * Keeps a data directory for this process: two controllers on one would each believe what the other has changed. The lock is
 * the system's, on a database of its own, and ends with the process. Gives the function that ends it before. Throws
 * `host-in-use`.
 */
export function lockData(directory: string): () => void {
  const database = new Database(join(directory, 'lock.db'), { timeout: 0 });
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
    throw new StowageError('host-in-use', `another controller works with ${directory}`, { cause: error });
  }
  return () => void database.close();
}
