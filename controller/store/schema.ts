import type { Generated, Selectable } from 'kysely';
import type { JobState } from '../../shared/protocol/api.ts';
import type { Domain } from '../../shared/protocol/domains.ts';
import type { Role } from '../../shared/protocol/rights.ts';

/** Tables as Kysely sees them. Times are ms since the epoch, sizes bytes, booleans 0 or 1, documents JSON text. */
export interface Database {
  hosts: HostsTable;
  host_labels: HostLabelsTable;
  enrolments: EnrolmentsTable;
  pools: PoolsTable;
  volumes: VolumesTable;
  volume_names: VolumeNamesTable;
  /** The index of SQLite by parts of the names. */
  volume_names_parts: Pick<VolumeNamesTable, 'name'>;
  domains: DomainsTable;
  domain_uses: DomainUsesTable;
  jobs: JobsTable;
  job_steps: JobStepsTable;
  job_hosts: JobHostsTable;
  leases: LeasesTable;
  lease_tokens: LeaseTokensTable;
  secrets: SecretsTable;
  tokens: TokensTable;
  users: UsersTable;
  sessions: SessionsTable;
  invitations: InvitationsTable;
  passkeys: PasskeysTable;
  recovery_codes: RecoveryCodesTable;
  events: EventsTable;
  space_history: SpaceHistoryTable;
  attention: AttentionTable;
  messages: MessagesTable;
  forwarding: ForwardingTable;
  audit: AuditTable;
  audit_checkpoints: AuditCheckpointsTable;
  audit_base: AuditBaseTable;
  witnesses: WitnessesTable;
  witnessed: WitnessedTable;
  copies: CopiesTable;
}

interface HostsTable {
  id: string;
  name: string;
  kind: 'local' | 'ssh' | 'websocket';
  /** `HostAddress`, JSON. */
  address: string;
  agent_id: string | null;
  state: 'connecting' | 'reachable' | 'unreachable';
  reason: string | null;
  since: number;
  created_at: number;
  /** JSON. */
  labels: string;
  /** Which state of its domains it has told; null while that is not known. */
  domains_known: string | null;
}

/** By which hosts are found that have a label. */
interface HostLabelsTable {
  host_id: string;
  host: string;
  label: string;
}

interface EnrolmentsTable {
  token_hash: string;
  host_id: string;
  expires_at: number;
  used_at: number | null;
}

interface PoolsTable extends LeftoverColumns {
  host_id: string;
  name: string;
  uuid: string;
  type: string;
  state: string;
  reason: string | null;
  /** When the state began. */
  since: number | null;
  target_path: string;
  /** Of stores of an earlier version. */
  target_permissions: string | null;
  capacity_bytes: number;
  allocation_bytes: number;
  available_bytes: number;
  autostart: number;
  /** The whole definition, JSON. */
  definition: string;
  /** Which state of its volumes its host has told; null while that is not known. */
  generation: string | null;
  revision: number | null;
  /** How many are known. */
  volume_count: number;
  /** How full it is beyond its sizes, JSON; null while that is not known. */
  usage: string | null;
  /** Null where its host has never told it. */
  storage_id: string | null;
}

/** What agents have left in a pool; null where there was nothing at the last look. */
export interface LeftoverColumns {
  leftover_count: number | null;
  leftover_bytes: number | null;
  /** When some were found first. */
  leftovers_since: number | null;
  /** 0 where nobody has looked for them. */
  leftovers_looked_at: number;
}

interface VolumesTable {
  host_id: string;
  /** The name of the host, which never changes. */
  host: string;
  pool: string;
  name: string;
  id: string;
  type: string;
  format: string;
  path: string;
  capacity_bytes: number;
  allocation_bytes: number;
  snapshot_count: number;
  backing_store: string | null;
  etag: string;
  damaged: string | null;
  /** When its content last changed, as its storage tells; 0 where that tells nothing. */
  modified_at: number | null;
  parent_id: string | null;
  /** Of the secret that it is encrypted with. */
  secret_id: string | null;
  /** The whole volume, JSON. */
  details: string;
}

/**
 * The names of all volumes, each once, by which parts of names are found. A name may stay for a while after the last volume
 * that had it.
 */
interface VolumeNamesTable {
  id: Generated<number>;
  name: string;
}

interface DomainsTable {
  host_id: string;
  host: string;
  origin: Domain['origin'];
  name: string;
  /** Empty where the domain has none. */
  uuid: string;
  state: string;
  /** The whole domain, JSON. */
  details: string;
}

/** Which volumes the domains use. */
interface DomainUsesTable {
  host_id: string;
  host: string;
  origin: Domain['origin'];
  domain: string;
  uuid: string;
  pool: string;
  volume: string;
}

interface JobsTable {
  id: Generated<number>;
  kind: string;
  state: JobState;
  /** `host/pool/volume`; null where it reads from nowhere. */
  source: string | null;
  target: string;
  /** What was asked for, JSON. */
  params: string;
  /** What the steps have found out so far, JSON. */
  notes: string;
  done_bytes: number;
  total_bytes: number;
  wire_bytes: number;
  /** Why it waits, or why it ended. */
  error_code: string | null;
  error_message: string | null;
  cancel_requested: number;
  pause_requested: number;
  created_by: string;
  created_at: number;
  updated_at: number;
  started_at: number | null;
  ended_at: number | null;
  /** The controller that works on it, until `claimed_until` unless it says so again. */
  owner: string | null;
  claimed_until: number | null;
  /** Of the trace in which it was asked for (W3C Trace Context). */
  traceparent: string | null;
  /** When somebody had seen that it failed. */
  dismissed_at: number | null;
}

interface JobStepsTable {
  job_id: number;
  number: number;
  name: string;
  started_at: number;
  finished_at: number | null;
}

/** The hosts of jobs that take turns and have not ended, with the state of the job. */
interface JobHostsTable {
  job_id: number;
  host: string;
  state: JobState;
}

interface LeasesTable {
  id: Generated<number>;
  /** `host/pool/volume`. */
  volume: string;
  mode: 'read' | 'write';
  token: number;
  holder: string;
  job_id: number | null;
  /** The controller by which it was taken. */
  owner: string | null;
  acquired_at: number;
  /** What is held: `STORAGE/volume` where it is known which storage that is; null in stores of an earlier version. */
  object: string | null;
}

interface LeaseTokensTable {
  /** As `object` of a lease, or `host/pool/volume`. */
  volume: string;
  token: number;
}

interface TokensTable {
  id: string;
  name: string;
  role: Role;
  /** JSON. */
  scopes: string;
  hash: string;
  created_at: number;
  expires_at: number | null;
  used_at: number | null;
}

/** People. */
interface UsersTable {
  id: string;
  name: string;
  role: Role;
  /** JSON. */
  scopes: string;
  /** As argon2 writes it; null for one who signs in elsewhere only. */
  password_hash: string | null;
  /** Who it is to the OpenID provider: `ISSUER SUBJECT`. */
  subject: string | null;
  /** The secret of the second factor, sealed. */
  totp: string | null;
  /** The last time step whose code was taken. */
  totp_used: number | null;
  created_at: number;
}

interface SessionsTable {
  hash: string;
  id: string;
  user_id: string;
  source: string;
  client: string;
  created_at: number;
  used_at: number;
}

/** One-time rights to become a user, or to set a new password. */
interface InvitationsTable {
  hash: string;
  /** Null where the first user chooses it. */
  name: string | null;
  role: Role;
  /** JSON. */
  scopes: string;
  expires_at: number;
}

/** What has changed, not how: whoever is told reads how it is then. */
interface EventsTable {
  seq: Generated<number>;
  at: number;
  type: 'host' | 'pool' | 'volume' | 'domain' | 'job';
  host: string | null;
  pool: string | null;
  /** Of a domain: who keeps it. */
  origin: Domain['origin'] | null;
  uuid: string | null;
  /** Of a volume or a domain its name, of a job its id. */
  name: string | null;
}

interface SecretsTable {
  id: string;
  kind: string;
  usage: string;
  description: string | null;
  /** JSON. */
  scopes: string;
  /** The value, sealed with a key that is not in the store. */
  sealed: string;
  changed_at: number;
}

interface AttentionTable {
  id: string;
  /** `AttentionItem`, JSON. */
  item: string;
  seen_at: number;
  told: 'warning' | 'critical' | null;
}

interface MessagesTable {
  id: string;
  channel: string;
  body: string;
  created_at: number;
  /** In the order of those of one time. */
  number: number;
  next_at: number;
  attempts: number;
}

interface ForwardingTable {
  destination: string;
  seq: number;
}

interface SpaceHistoryTable {
  /** `host/pool`; empty for all pools together. */
  place: string;
  resolution: 'minute' | 'hour' | 'day';
  at: number;
  /** What there was, and was in use, at the end of the step. */
  capacity_bytes: number;
  allocation_bytes: number;
  /** The highest use within it. */
  peak_bytes: number;
  provisioned_bytes: number | null;
}

interface PasskeysTable {
  /** Of the credential, base64url. */
  id: string;
  user_id: string;
  name: string;
  /** COSE, base64url. */
  public_key: string;
  counter: number;
  /** JSON. */
  transports: string;
  created_at: number;
  used_at: number | null;
}

interface RecoveryCodesTable {
  hash: string;
  user_id: string;
}

interface AuditTable {
  seq: number;
  at: number;
  actor: string;
  source: string;
  action: string;
  target: string;
  outcome: 'begun' | 'done' | 'failed' | 'refused';
  detail: string;
  previous: string;
  hash: string;
}

interface AuditCheckpointsTable {
  seq: number;
  hash: string;
  at: number;
  signature: string;
}

/** At most one row: the last record that is in an archive only. */
interface AuditBaseTable {
  seq: number;
  hash: string;
  signature: string;
  /** JSON. */
  frontier: string;
}

interface CopiesTable {
  volume_id: string;
  source_id: string;
  snapshot: string | null;
  copied_at: number;
}

interface WitnessesTable {
  name: string;
  seq: number;
  hash: string;
  /** JSON. */
  frontier: string;
  at: number;
}

/** What a witness has signed last on a day (days since the epoch). */
interface WitnessedTable {
  witness: string;
  day: number;
  note: string;
}

export type HostRow = Selectable<HostsTable>;
export type PoolRow = Selectable<PoolsTable>;
export type VolumeRow = Selectable<VolumesTable>;
export type DomainRow = Selectable<DomainsTable>;
export type JobRow = Selectable<JobsTable>;
export type LeaseRow = Selectable<LeasesTable>;
export type SecretRow = Selectable<SecretsTable>;
export type TokenRow = Selectable<TokensTable>;
export type UserRow = Selectable<UsersTable>;
export type SessionRow = Selectable<SessionsTable>;
export type PasskeyRow = Selectable<PasskeysTable>;
export type InvitationRow = Selectable<InvitationsTable>;
export type SpaceHistoryRow = Selectable<SpaceHistoryTable>;
export type EventRow = Selectable<EventsTable>;
