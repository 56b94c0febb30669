import type { Generated, Selectable } from 'kysely';

/** Tables as Kysely sees them. Times are ms since the epoch, sizes bytes, booleans 0 or 1, documents JSON text. */
export interface Database {
  hosts: HostsTable;
  enrolments: EnrolmentsTable;
  pools: PoolsTable;
  volumes: VolumesTable;
  jobs: JobsTable;
  job_steps: JobStepsTable;
  leases: LeasesTable;
  lease_tokens: LeaseTokensTable;
  tokens: TokensTable;
  audit: AuditTable;
  audit_checkpoints: AuditCheckpointsTable;
}

interface HostsTable {
  id: string;
  name: string;
  kind: 'local' | 'ssh' | 'websocket';
  /** How to reach it: {@link HostAddress} as JSON. */
  address: string;
  /** The agent's own random id, once it was reached. */
  agent_id: string | null;
  state: 'connecting' | 'reachable' | 'unreachable';
  reason: string | null;
  /** When the state began. */
  since: number;
  created_at: number;
}

interface EnrolmentsTable {
  token_hash: string;
  host_id: string;
  expires_at: number;
  used_at: number | null;
}

interface PoolsTable {
  host_id: string;
  name: string;
  uuid: string;
  type: string;
  state: string;
  reason: string | null;
  target_path: string;
  /** JSON; null where the definition says nothing. */
  target_permissions: string | null;
  capacity_bytes: number;
  allocation_bytes: number;
  available_bytes: number;
  autostart: number;
  /** The whole definition, JSON. */
  definition: string | null;
  /** Which state of its volumes its host has told; null while that is not known. */
  generation: string | null;
  revision: number | null;
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
  /** The whole volume, JSON. */
  details: string | null;
}

export const JOB_STATES = ['queued', 'running', 'waiting', 'done', 'failed', 'cancelled'] as const;
export type JobState = (typeof JOB_STATES)[number];

interface JobsTable {
  id: Generated<number>;
  kind: string;
  state: JobState;
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
  created_by: string;
  created_at: number;
  updated_at: number;
}

interface JobStepsTable {
  job_id: number;
  number: number;
  name: string;
  started_at: number;
  finished_at: number | null;
}

interface LeasesTable {
  id: Generated<number>;
  /** `host/pool/volume`. */
  volume: string;
  mode: 'read' | 'write';
  token: number;
  holder: string;
  job_id: number | null;
  acquired_at: number;
}

interface LeaseTokensTable {
  volume: string;
  token: number;
}

export const ROLES = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

interface TokensTable {
  id: string;
  name: string;
  role: Role;
  hash: string;
  created_at: number;
  expires_at: number | null;
}

interface AuditTable {
  seq: number;
  at: number;
  actor: string;
  source: string;
  action: string;
  target: string;
  outcome: string;
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

export type HostRow = Selectable<HostsTable>;
export type PoolRow = Selectable<PoolsTable>;
export type VolumeRow = Selectable<VolumesTable>;
export type JobRow = Selectable<JobsTable>;
export type JobStepRow = Selectable<JobStepsTable>;
export type LeaseRow = Selectable<LeasesTable>;
export type TokenRow = Selectable<TokensTable>;
export type AuditRow = Selectable<AuditTable>;
export type CheckpointRow = Selectable<AuditCheckpointsTable>;
