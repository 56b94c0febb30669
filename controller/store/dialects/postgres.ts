import { CompiledQuery, type DatabaseConnection, PostgresDialect, PostgresDriver } from 'kysely';
import pg from 'pg';

/** Any number that nothing else in the database takes a lock by. */
const WRITER_LOCK = 7_070_001;
/** A controller that stands still in a transaction does not hold up the others for longer. */
const IDLE_MS = 10_000;
const CONNECT_MS = 10_000;
/** Longer than {@link IDLE_MS}: whoever stands still has been put out by then. */
const LOCK_MS = 20_000;
/** A server that does not answer. */
const STATEMENT_MS = 60_000;
const BIGINT_OID = 20;

/** Opens a store on PostgreSQL. Nothing is connected before the first statement. */
export function postgresDialect(url: string): PostgresDialect {
  const pool = new pg.Pool({
    connectionString: url,
    max: 8,
    connectionTimeoutMillis: CONNECT_MS,
    idle_in_transaction_session_timeout: IDLE_MS,
    lock_timeout: LOCK_MS,
    statement_timeout: STATEMENT_MS,
    keepAlive: true,
    application_name: 'stowage-controller',
    types: {
      // Sizes and times are below 2^53.
      getTypeParser: (oid, format) =>
        oid === BIGINT_OID ? Number : pg.types.getTypeParser(oid as number, format as 'text'),
    },
  });
  // A connection that breaks while nobody uses it is replaced by the pool; without a listener it would end the process.
  pool.on('error', () => undefined);
  return new WritingDialect({ pool });
}

/**
 * Transactions come one after the other, as in SQLite: each takes one lock when it begins, so that nothing that it reads is
 * changed by another before it writes.
 */
class WritingDriver extends PostgresDriver {
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin'));
    try {
      await connection.executeQuery(CompiledQuery.raw(`select pg_advisory_xact_lock(${WRITER_LOCK})`));
    } catch (error) {
      await connection.executeQuery(CompiledQuery.raw('rollback')).catch(() => undefined);
      throw error;
    }
  }
}

class WritingDialect extends PostgresDialect {
  readonly #config: ConstructorParameters<typeof PostgresDialect>[0];

  constructor(config: ConstructorParameters<typeof PostgresDialect>[0]) {
    super(config);
    this.#config = config;
  }

  override createDriver(): PostgresDriver {
    return new WritingDriver(this.#config);
  }
}
