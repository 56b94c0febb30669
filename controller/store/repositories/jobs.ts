import type { Expression, ExpressionBuilder, Kysely, SqlBool } from 'kysely';
import {
  type FleetTotals,
  type Job,
  type JobDetails,
  type JobState,
  jobSchema,
} from '../../../shared/protocol/api.ts';
import { ENDED_STATES, JOB_STATES } from '../../../shared/protocol/lists.ts';
import type { Database, JobRow } from '../schema.ts';
import { placeInScopes } from '../scopes.ts';

/** A job with what only its runner needs. */
export interface JobRecord extends Job {
  notes: Record<string, unknown>;
  cancelRequested: boolean;
  pauseRequested: boolean;
  /** The controller that works on it. */
  owner?: string;
  /** Of the trace in which it was asked for (W3C Trace Context). */
  traceparent?: string;
}

const UNENDED = JOB_STATES.filter((state) => !ENDED_STATES.includes(state));

export interface NewJob {
  kind: string;
  source?: string;
  target: string;
  params: object;
  createdBy: string;
  traceparent?: string;
  /** Of the controller that it is made by. */
  owner: string;
  claimedUntil: number;
}

export interface JobChanges {
  state?: JobState;
  notes?: object;
  doneBytes?: number;
  totalBytes?: number;
  wireBytes?: number;
  /** `null`: there is none any more. */
  error?: { code: string; message: string } | null;
}

export interface JobFilter {
  limit: number;
  /** Those with lower numbers. */
  before?: number;
  state?: JobState;
  kind?: string;
  /** Those that nobody has dismissed. */
  isUndismissed?: boolean;
  scopes?: readonly string[];
}

/** `away`: a host without which the job cannot run. */
export interface Turn {
  has: boolean;
  away?: string;
}

/** Both ends of a job must be in the scopes. */
function jobInScopes(
  eb: ExpressionBuilder<Database, 'jobs'>,
  scopes: readonly string[],
): Expression<SqlBool> {
  return eb.and([
    placeInScopes(eb, scopes, 'target'),
    eb.or([eb('source', 'is', null), placeInScopes(eb, scopes, 'source')]),
  ]);
}

/** Whether one of the hosts of the job of a row is away. */
function waitsForHost(eb: ExpressionBuilder<Database, 'job_hosts'>): Expression<SqlBool> {
  return eb.exists(
    eb
      .selectFrom('job_hosts as other')
      .innerJoin('hosts', 'hosts.name', 'other.host')
      .select('other.job_id')
      .whereRef('other.job_id', '=', 'job_hosts.job_id')
      .where('hosts.state', '!=', 'reachable'),
  );
}

function jobOf(row: JobRow): JobRecord {
  return {
    id: row.id,
    kind: row.kind,
    state: row.state,
    target: row.target,
    source: row.source ?? undefined,
    params: JSON.parse(row.params) as Record<string, unknown>,
    notes: JSON.parse(row.notes) as Record<string, unknown>,
    doneBytes: row.done_bytes,
    totalBytes: row.total_bytes,
    wireBytes: row.wire_bytes,
    error: row.error_code === null ? undefined : { code: row.error_code, message: row.error_message ?? '' },
    cancelRequested: row.cancel_requested === 1,
    pauseRequested: row.pause_requested === 1,
    createdBy: row.created_by,
    createdAt: row.created_at,
    startedAt: row.started_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
    dismissedAt: row.dismissed_at ?? undefined,
    owner: row.owner ?? undefined,
    traceparent: row.traceparent ?? undefined,
  };
}

/** What everybody may see of a job. */
export const publicJob = (job: JobRecord): Job => jobSchema.parse(job);

/** The hosts that it works on. */
export const hostsOf = ({ source, target }: { source?: string; target: string }): Set<string> =>
  new Set([source ?? target, target].map((place) => place.split('/')[0]!));

export class JobReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** The newest first. */
  async list({ limit, before, state, kind, isUndismissed, scopes = [] }: JobFilter): Promise<JobRecord[]> {
    let query = this.db.selectFrom('jobs').selectAll();
    if (state !== undefined) query = query.where('state', '=', state);
    if (kind !== undefined) query = query.where('kind', '=', kind);
    if (isUndismissed) query = query.where('dismissed_at', 'is', null);
    if (before !== undefined) query = query.where('id', '<', before);
    if (scopes.length > 0) query = query.where((eb) => jobInScopes(eb, scopes));
    return (await query.orderBy('id', 'desc').limit(limit).execute()).map(jobOf);
  }

  /** How many that have not ended there are in each state. */
  async totals(scopes: readonly string[]): Promise<FleetTotals['jobs']> {
    let query = this.db.selectFrom('jobs').where('state', 'in', UNENDED);
    if (scopes.length > 0) query = query.where((eb) => jobInScopes(eb, scopes));
    const rows = await query
      .select(({ fn }) => ['state', fn.countAll().as('count')])
      .groupBy('state')
      .execute();
    return { byState: Object.fromEntries(rows.map(({ state, count }) => [state, Number(count)])) };
  }

  async find(id: number): Promise<JobRecord | undefined> {
    const row = await this.db.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst();
    return row && jobOf(row);
  }

  async steps(jobId: number): Promise<(JobDetails['steps'][number] & { number: number })[]> {
    const rows = await this.db
      .selectFrom('job_steps')
      .selectAll()
      .where('job_id', '=', jobId)
      .orderBy('number')
      .execute();
    return rows.map(({ number, name, started_at: startedAt, finished_at: finishedAt }) => ({
      ...{ number, name, startedAt },
      finishedAt: finishedAt ?? undefined,
    }));
  }

  /** Those that have not ended, the oldest first. */
  async unended(kind?: string): Promise<JobRecord[]> {
    let query = this.db.selectFrom('jobs').selectAll().where('state', 'in', UNENDED);
    if (kind !== undefined) query = query.where('kind', '=', kind);
    return (await query.orderBy('id').execute()).map(jobOf);
  }

  /** The upload to a volume that has not ended. */
  async uploadTo(volume: string): Promise<JobRecord | undefined> {
    const row = await this.db
      .selectFrom('jobs')
      .innerJoin('leases', 'leases.job_id', 'jobs.id')
      .selectAll('jobs')
      .where('leases.volume', '=', volume)
      .where('jobs.kind', '=', 'upload')
      .where('jobs.state', 'in', UNENDED)
      .executeTakeFirst();
    return row && jobOf(row);
  }

  /** Uploads that nobody has continued since. */
  async uploadsUntouchedSince(time: number): Promise<JobRecord[]> {
    const rows = await this.db
      .selectFrom('jobs')
      .selectAll()
      .where('kind', '=', 'upload')
      .where('state', 'in', UNENDED)
      .where('updated_at', '<', time)
      .execute();
    return rows.map(jobOf);
  }

  /** Jobs that nobody works on: never claimed, or by a controller whose claim has ended. */
  async unclaimed(now: number): Promise<JobRecord[]> {
    const rows = await this.db
      .selectFrom('jobs')
      .selectAll()
      .where('state', 'in', UNENDED)
      .where((eb) => eb.or([eb('owner', 'is', null), eb('claimed_until', '<', now)]))
      .orderBy('id')
      .execute();
    return rows.map(jobOf);
  }

  /**
   * How many jobs have their turn before one, on the busiest of its hosts, at most `most`: those that run, and queued ones that are
   * older, unless they wait for a host that is away.
   */
  async ahead(job: Pick<JobRecord, 'id' | 'source' | 'target'>, most: number): Promise<number> {
    let ahead = 0;
    for (const host of hostsOf(job)) {
      const turns = this.db.selectFrom('job_hosts').select('job_id').where('host', '=', host).limit(most);
      const running = await turns.where('state', '=', 'running').where('job_id', '!=', job.id).execute();
      const older = await turns
        .where('state', '=', 'queued')
        .where('job_id', '<', job.id)
        .where((eb) => eb.not(waitsForHost(eb)))
        .execute();
      ahead = Math.max(ahead, Math.min(most, running.length + older.length));
    }
    return ahead;
  }

  /** A host of the job that is away. */
  async hostAway(job: Pick<JobRecord, 'source' | 'target'>): Promise<string | undefined> {
    const away = await this.db
      .selectFrom('hosts')
      .select('name')
      .where('name', 'in', [...hostsOf(job)])
      .where('state', '!=', 'reachable')
      .executeTakeFirst();
    return away?.name;
  }

  /** Whether a job may run now: all its hosts are there, and none has `perHost` jobs before it. */
  async turn(job: Pick<JobRecord, 'id' | 'source' | 'target'>, perHost: number): Promise<Turn> {
    const away = await this.hostAway(job);
    if (away !== undefined) return { has: false, away };
    return { has: (await this.ahead(job, perHost)) < perHost };
  }

  /** The oldest queued jobs of each of some hosts, or of every host: those whose turn may have come. */
  async nextQueued(owner: string, most: number, hosts?: Iterable<string>): Promise<JobRecord[]> {
    const queued = this.db.selectFrom('job_hosts').where('job_hosts.state', '=', 'queued');
    const places = hosts ?? (await queued.select('host').distinct().execute()).map(({ host }) => host);
    const found = new Map<number, JobRecord>();
    for (const host of places) {
      const rows = await queued
        .innerJoin('jobs', 'jobs.id', 'job_hosts.job_id')
        .selectAll('jobs')
        .where('job_hosts.host', '=', host)
        .where('jobs.owner', '=', owner)
        .where('jobs.pause_requested', '=', 0)
        .where((eb) => eb.not(waitsForHost(eb)))
        .orderBy('job_hosts.job_id')
        .limit(most)
        .execute();
      for (const row of rows) found.set(row.id, jobOf(row));
    }
    return [...found.values()].sort((left, right) => left.id - right.id);
  }
}

export class JobWriter extends JobReader {
  /** `counts`: it takes one of the turns of its hosts. */
  async insert(job: NewJob, counts: boolean, now: number): Promise<JobRecord> {
    const row = await this.db
      .insertInto('jobs')
      .values({
        kind: job.kind,
        state: 'queued',
        source: job.source ?? null,
        target: job.target,
        params: JSON.stringify(job.params),
        notes: '{}',
        done_bytes: 0,
        total_bytes: 0,
        wire_bytes: 0,
        error_code: null,
        error_message: null,
        cancel_requested: 0,
        pause_requested: 0,
        created_by: job.createdBy,
        created_at: now,
        updated_at: now,
        started_at: null,
        ended_at: null,
        owner: job.owner,
        claimed_until: job.claimedUntil,
        traceparent: job.traceparent ?? null,
        dismissed_at: null,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    if (counts)
      await this.db
        .insertInto('job_hosts')
        .values([...hostsOf(job)].map((host) => ({ job_id: row.id, host, state: 'queued' as const })))
        .execute();
    return jobOf(row);
  }

  /** Whether it could be changed: another controller may have taken it over, and an ended one stays as it is. */
  async update(id: number, owner: string, changes: JobChanges, now: number): Promise<boolean> {
    const { state, notes, doneBytes, totalBytes, wireBytes, error } = changes;
    const { numUpdatedRows } = await this.db
      .updateTable('jobs')
      .set({
        state,
        notes: notes && JSON.stringify(notes),
        done_bytes: doneBytes,
        total_bytes: totalBytes,
        wire_bytes: wireBytes,
        ...(error !== undefined && {
          error_code: error?.code ?? null,
          error_message: error?.message ?? null,
        }),
        updated_at: now,
      })
      .where('id', '=', id)
      .where('owner', '=', owner)
      .where('state', 'in', UNENDED)
      .executeTakeFirst();
    if (numUpdatedRows === 0n) return false;
    if (state !== undefined)
      await this.db.updateTable('job_hosts').set({ state }).where('job_id', '=', id).execute();
    return true;
  }

  async setStarted(id: number, now: number): Promise<void> {
    await this.db
      .updateTable('jobs')
      .set({ started_at: now })
      .where('id', '=', id)
      .where('started_at', 'is', null)
      .execute();
  }

  async request(id: number, what: 'cancel' | 'pause' | 'resume'): Promise<void> {
    const set = what === 'cancel' ? { cancel_requested: 1 } : { pause_requested: what === 'pause' ? 1 : 0 };
    await this.db.updateTable('jobs').set(set).where('id', '=', id).execute();
  }

  /** Whether it has ended by this: another may have ended it, or taken it over, before. */
  async end(
    id: number,
    owner: string,
    state: JobState,
    error: { code: string; message: string } | undefined,
    now: number,
  ): Promise<boolean> {
    const ended = await this.update(id, owner, { state, error: error ?? null }, now);
    if (!ended) return false;
    await this.db
      .updateTable('jobs')
      .set(({ ref }) => ({
        ended_at: now,
        owner: null,
        claimed_until: null,
        // Progress is told now and then; the end says all.
        ...(state === 'done' && { done_bytes: ref('total_bytes') }),
      }))
      .where('id', '=', id)
      .execute();
    await this.db.deleteFrom('job_hosts').where('job_id', '=', id).execute();
    return true;
  }

  /** Whether it is one that has failed. */
  async dismiss(id: number, now: number): Promise<boolean> {
    const { numUpdatedRows } = await this.db
      .updateTable('jobs')
      .set(({ fn, ref, val }) => ({ dismissed_at: fn.coalesce(ref('dismissed_at'), val(now)) }))
      .where('id', '=', id)
      .where('state', '=', 'failed')
      .executeTakeFirst();
    return numUpdatedRows > 0n;
  }

  async beginStep(jobId: number, number: number, name: string, now: number): Promise<void> {
    await this.db
      .insertInto('job_steps')
      .values({ job_id: jobId, number, name, started_at: now, finished_at: null })
      .onConflict((conflict) => conflict.columns(['job_id', 'number']).doNothing())
      .execute();
  }

  async finishStep(jobId: number, number: number, now: number): Promise<void> {
    await this.db
      .updateTable('job_steps')
      .set({ finished_at: now })
      .where('job_id', '=', jobId)
      .where('number', '=', number)
      .execute();
  }

  async claim(id: number, owner: string, until: number): Promise<void> {
    await this.db.updateTable('jobs').set({ owner, claimed_until: until }).where('id', '=', id).execute();
  }

  /** Says again that a controller works on all its jobs, and gives them with what was asked of them meanwhile. */
  async renew(
    owner: string,
    until: number,
  ): Promise<{ id: number; cancelRequested: boolean; pauseRequested: boolean }[]> {
    const rows = await this.db
      .updateTable('jobs')
      .set({ claimed_until: until })
      .where('owner', '=', owner)
      .returning(['id', 'cancel_requested', 'pause_requested'])
      .execute();
    return rows.map(({ id, cancel_requested, pause_requested }) => ({
      id,
      cancelRequested: cancel_requested === 1,
      pauseRequested: pause_requested === 1,
    }));
  }
}
