import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { StowageError } from '../../shared/util/errors.ts';

/**
 * Keeps a data directory for this process: two controllers on one would each believe what the other has changed. The lock is
 * the system's, on a database of its own, and ends with the process. Gives the function that ends it before. Throws
 * `host-in-use`, which names the process that has it.
 */
export function lockData(directory: string): () => void {
  const database = new Database(join(directory, 'lock.db'), { timeout: 0 });
  const owner = join(directory, 'lock.pid');
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if ((error as { code?: string }).code !== 'SQLITE_BUSY') throw error;
    throw new StowageError('host-in-use', `another controller works with ${directory}${pidIn(owner)}`, {
      cause: error,
    });
  }
  try {
    writeFileSync(owner, `${process.pid}\n`);
  } catch {
    // Only to be read by people: a full disk keeps no controller from its work.
    rmSync(owner, { force: true });
  }
  return () => void database.close();
}

/** For people: what the owner has noted of itself, such as ` (process 123)`. */
function pidIn(file: string): string {
  try {
    return ` (process ${Number.parseInt(readFileSync(file, 'utf8'), 10)})`;
  } catch {
    return '';
  }
}
