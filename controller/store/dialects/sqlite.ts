import { Worker } from 'node:worker_threads';
import SqliteDatabase from 'better-sqlite3';
import {
  CompiledQuery,
  type DatabaseConnection,
  type SqliteDatabase as SqliteDatabaseOfKysely,
  SqliteDialect,
  SqliteDriver,
} from 'kysely';
import { clock, sleep } from '../../../shared/util/clock.ts';

/** Longest that a transaction waits for its turn. */
const TURN_MS = 10_000;
const LOOK_MS = 2;

/** Opens a SQLite store that is durable at each commit. */
export function sqliteDialect(path: string): SqliteDialect {
  const database = new SqliteDatabase(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.pragma('foreign_keys = ON');
  // Waiting here would hold up the event loop; whoever begins a transaction waits for its turn in another way.
  database.pragma('busy_timeout = 0');
  database.pragma('wal_autocheckpoint = 0');
  const checkpoints = new Worker(new URL('./checkpoint-worker.ts', import.meta.url), {
    workerData: { path },
  });
  checkpoints.unref();
  // Without it the log grows until the store is closed; what is written is as durable.
  checkpoints.on('error', () => undefined);
  return new WritingDialect({ database: remembering(database) }, checkpoints);
}

/** Statements that are kept prepared: as many as the controller has, with room. */
const MOST_STATEMENTS = 500;

/** A database that prepares a statement once: that costs as much as running it. */
function remembering(database: SqliteDatabase.Database): SqliteDatabaseOfKysely {
  const prepared = new Map<string, SqliteDatabase.Statement>();
  return {
    close: () => void database.close(),
    prepare(text) {
      let statement = prepared.get(text);
      // One that is being iterated over is busy.
      if (statement === undefined || statement.busy) {
        statement = database.prepare(text);
        const [oldest] = prepared.keys();
        if (prepared.size >= MOST_STATEMENTS && oldest !== undefined) prepared.delete(oldest);
        prepared.set(text, statement);
      }
      return statement;
    },
  };
}

/** Transactions take the write lock when they begin: what one reads nobody changes before it writes. */
class WritingDriver extends SqliteDriver {
  readonly #checkpoints: Worker;

  constructor(config: ConstructorParameters<typeof SqliteDriver>[0], checkpoints: Worker) {
    super(config);
    this.#checkpoints = checkpoints;
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    const deadline = clock.monotonicMs() + TURN_MS;
    for (;;) {
      try {
        await connection.executeQuery(CompiledQuery.raw('begin immediate'));
        return;
      } catch (error) {
        const isBusy = (error as { code?: string }).code === 'SQLITE_BUSY';
        if (!isBusy || clock.monotonicMs() > deadline) throw error;
        await sleep(LOOK_MS);
      }
    }
  }

  /** SQLite itself has undone what met a full disk: that error is the one to be told. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await super.rollbackTransaction(connection).catch((error: Error) => {
      if (!/no transaction is active/.test(error.message)) throw error;
    });
  }

  /** The last that closes moves all of the log into the database. */
  override async destroy(): Promise<void> {
    await endThread(this.#checkpoints);
    await super.destroy();
  }
}

type Config = ConstructorParameters<typeof SqliteDialect>[0];

class WritingDialect extends SqliteDialect {
  readonly #config: Config;
  readonly #checkpoints: Worker;

  constructor(config: Config, checkpoints: Worker) {
    super(config);
    this.#config = config;
    this.#checkpoints = checkpoints;
  }

  override createDriver(): SqliteDriver {
    return new WritingDriver(this.#config, this.#checkpoints);
  }
}

/** Ends a thread. One that is ended while it loads the library of SQLite takes the whole process along: it is let begin first. */
async function endThread(thread: Worker): Promise<void> {
  if (thread.threadId !== -1) {
    const begun = Promise.withResolvers<void>();
    for (const event of ['message', 'error', 'exit']) thread.once(event, () => begun.resolve());
    thread.ref();
    thread.postMessage('begun?');
    await begun.promise;
  }
  await thread.terminate();
}
