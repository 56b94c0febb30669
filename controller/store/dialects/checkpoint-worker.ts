import { statSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import SqliteDatabase from 'better-sqlite3';
import { clock } from '../../../shared/util/clock.ts';

/** How often what was written is moved from the log into the database. */
const CHECKPOINT_MS = 1000;
/** A log beyond this begins anew; writers wait a moment for that. */
const LARGE_BYTES = 64 << 20;

/** A thread of its own for SQLite's checkpoints: they wait for the disk, which the event loop must not. */
const { path } = workerData as { path: string };
const database = new SqliteDatabase(path);
database.pragma('synchronous = FULL');
database.pragma('busy_timeout = 1000');

clock.every(CHECKPOINT_MS, () => {
  try {
    const { size } = statSync(`${path}-wal`);
    database.pragma(`wal_checkpoint(${size > LARGE_BYTES ? 'RESTART' : 'PASSIVE'})`);
  } catch {
    // A full disk, or a log that is not there yet: nothing is lost, and the next one tries again.
  }
});

// Whoever ends this thread asks first whether it has begun.
parentPort?.on('message', () => parentPort?.postMessage('begun'));
