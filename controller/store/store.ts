import { type Dialect, Kysely } from 'kysely';
import { Migrator } from 'kysely/migration';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { isPostgres } from './column-types.ts';
import { postgresDialect } from './dialects/postgres.ts';
import { sqliteDialect } from './dialects/sqlite.ts';
import { GroupedWrites } from './grouped-writes.ts';
import { isPostgresUrl } from './location.ts';
import { MIGRATIONS } from './migrations/index.ts';
import { AttentionReader, AttentionWriter } from './repositories/attention.ts';
import { AuditReader, AuditWriter } from './repositories/audit.ts';
import { CopyReader, CopyWriter } from './repositories/copies.ts';
import { DomainReader, DomainWriter } from './repositories/domains.ts';
import { EventReader, EventWriter } from './repositories/events.ts';
import { ForwardingReader, ForwardingWriter } from './repositories/forwarding.ts';
import { HostReader, HostWriter } from './repositories/hosts.ts';
import { JobReader, JobWriter } from './repositories/jobs.ts';
import { LeaseReader, LeaseWriter } from './repositories/leases.ts';
import { PoolReader, PoolWriter } from './repositories/pools.ts';
import { SecondFactorReader, SecondFactorWriter } from './repositories/second-factors.ts';
import { SecretReader, SecretWriter } from './repositories/secrets.ts';
import { SpaceHistoryReader, SpaceHistoryWriter } from './repositories/space-history.ts';
import { TokenReader, TokenWriter } from './repositories/tokens.ts';
import { UserReader, UserWriter } from './repositories/users.ts';
import { VolumeRows } from './repositories/volume-rows.ts';
import { VolumeReader, VolumeWriter } from './repositories/volumes.ts';
import { WitnessReader, WitnessWriter } from './repositories/witnesses.ts';
import type { Database } from './schema.ts';

/** How long a transaction takes more work in: SQLite holds up the event loop meanwhile, PostgreSQL other writers. */
const SQLITE_GROUP_MS = 8;
const POSTGRES_GROUP_MS = 50;

/** The repositories as they are within a transaction. */
export interface Transaction {
  readonly attention: AttentionWriter;
  readonly audit: AuditWriter;
  readonly copies: CopyWriter;
  readonly domains: DomainWriter;
  readonly events: EventWriter;
  readonly forwarding: ForwardingWriter;
  readonly hosts: HostWriter;
  readonly jobs: JobWriter;
  readonly leases: LeaseWriter;
  readonly pools: PoolWriter;
  readonly secondFactors: SecondFactorWriter;
  readonly secrets: SecretWriter;
  readonly spaceHistory: SpaceHistoryWriter;
  readonly tokens: TokenWriter;
  readonly users: UserWriter;
  readonly volumes: VolumeWriter;
  readonly witnesses: WitnessWriter;
}

/** What the controller keeps, in SQLite or in PostgreSQL. Outside of a transaction it is only read. */
export class Store {
  /** For what concerns the whole store, such as copying it. */
  readonly db: Kysely<Database>;
  readonly #writes: GroupedWrites;
  readonly attention: AttentionReader;
  readonly audit: AuditReader;
  readonly copies: CopyReader;
  readonly domains: DomainReader;
  readonly events: EventReader;
  readonly forwarding: ForwardingReader;
  readonly hosts: HostReader;
  readonly jobs: JobReader;
  readonly leases: LeaseReader;
  readonly pools: PoolReader;
  readonly secondFactors: SecondFactorReader;
  readonly secrets: SecretReader;
  readonly spaceHistory: SpaceHistoryReader;
  readonly tokens: TokenReader;
  readonly users: UserReader;
  readonly volumes: VolumeReader;
  readonly volumeRows: VolumeRows;
  readonly witnesses: WitnessReader;

  constructor(db: Kysely<Database>) {
    this.db = db;
    this.#writes = new GroupedWrites(db, isPostgres(db as never) ? POSTGRES_GROUP_MS : SQLITE_GROUP_MS);
    this.attention = new AttentionReader(db);
    this.audit = new AuditReader(db);
    this.copies = new CopyReader(db);
    this.domains = new DomainReader(db);
    this.events = new EventReader(db);
    this.forwarding = new ForwardingReader(db);
    this.hosts = new HostReader(db);
    this.jobs = new JobReader(db);
    this.leases = new LeaseReader(db);
    this.pools = new PoolReader(db);
    this.secondFactors = new SecondFactorReader(db);
    this.secrets = new SecretReader(db);
    this.spaceHistory = new SpaceHistoryReader(db);
    this.tokens = new TokenReader(db);
    this.users = new UserReader(db);
    this.volumes = new VolumeReader(db);
    this.volumeRows = new VolumeRows(db);
    this.witnesses = new WitnessReader(db);
  }

  /**
   * Everything that `work` writes, durably, or, when it throws, nothing. Writers take turns, those of other processes too:
   * what `work` has read nobody else changes before it ends. It must wait for nothing but the store, and may be run again
   * from its beginning.
   */
  transaction<T>(work: (transaction: Transaction) => Promise<T>): Promise<T> {
    return this.#writes.add((db) => work(writersOn(db)));
  }

  close(): Promise<void> {
    return this.db.destroy();
  }
}

function writersOn(db: Kysely<Database>): Transaction {
  return {
    attention: new AttentionWriter(db),
    audit: new AuditWriter(db),
    copies: new CopyWriter(db),
    domains: new DomainWriter(db),
    events: new EventWriter(db),
    forwarding: new ForwardingWriter(db),
    hosts: new HostWriter(db),
    jobs: new JobWriter(db),
    leases: new LeaseWriter(db),
    pools: new PoolWriter(db),
    secondFactors: new SecondFactorWriter(db),
    secrets: new SecretWriter(db),
    spaceHistory: new SpaceHistoryWriter(db),
    tokens: new TokenWriter(db),
    users: new UserWriter(db),
    volumes: new VolumeWriter(db),
    witnesses: new WitnessWriter(db),
  };
}

function dialectOf(location: string): Dialect {
  return isPostgresUrl(location) ? postgresDialect(location) : sqliteDialect(location);
}

/** A URL may have a password in it. */
function unusable(location: string, error: unknown): Error {
  const where = isPostgresUrl(location) ? 'in PostgreSQL' : location;
  const { message } = error as Error;
  const later = /previously executed migration (\S+) is missing/.exec(message)?.[1];
  return new StowageError(
    'io-error',
    later === undefined
      ? `the store ${where} cannot be used: ${message}`
      : `the store ${where} is of a later version of Stowage (${later}): start that one, or restore a backup of this one`,
    { cause: error },
  );
}

/**
 * Opens the store at a path (SQLite) or a `postgres://` URL, and brings it up to date, or to the version that a migration of
 * this name makes.
 */
export async function openStore(location: string, version?: string): Promise<Store> {
  const db = new Kysely<Database>({ dialect: dialectOf(location) });
  const migrator = new Migrator({ db, provider: { getMigrations: async () => MIGRATIONS } });
  const { error } = await (version === undefined ? migrator.migrateToLatest() : migrator.migrateTo(version));
  if (error) {
    await db.destroy();
    throw isStowageError(error) ? error : unusable(location, error);
  }
  return new Store(db);
}
