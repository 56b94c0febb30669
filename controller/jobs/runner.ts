import { clock, sleep } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Store } from '../store/open.ts';
import type { JobRow, JobState, JobStepRow } from '../store/schema.ts';
import { type JobContext, type JobKind, TRANSIENT } from './job.ts';
import type { Lease, Leases } from './leases.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const PROGRESS_MS = 400;
/** What agents claim fills no trail: so many claims are recorded of one job in one life of the controller. */
const MOST_CLAIMS = 20;

type AnyKind = JobKind<never, never>;

export interface JobInfo extends JobRow {
  steps: JobStepRow[];
}

const ENDED: readonly JobState[] = ['done', 'failed', 'cancelled'];
const STOPPED = new StowageError('cancelled', 'the controller is stopping');
const CANCELLED = new StowageError('cancelled', 'the job was cancelled');

/** Runs jobs, records each step before and after, and carries on with them after a restart. */
export class JobRunner {
  readonly #store: Store;
  readonly #leases: Leases;
  readonly #fleet: Fleet;
  readonly #inventory: Inventory;
  readonly #audit: AuditTrail;
  readonly #kinds = new Map<string, AnyKind>();
  readonly #running = new Map<
    number,
    { stop: AbortController; ended: Promise<void>; wake: AbortController }
  >();

  constructor(parts: {
    store: Store;
    leases: Leases;
    fleet: Fleet;
    inventory: Inventory;
    audit: AuditTrail;
  }) {
    this.#store = parts.store;
    this.#leases = parts.leases;
    this.#fleet = parts.fleet;
    this.#inventory = parts.inventory;
    this.#audit = parts.audit;
  }

  register<P, N>(kind: JobKind<P, N>): void {
    this.#kinds.set(kind.kind, kind as unknown as AnyKind);
  }

  /** Carries on with what the last process left. */
  async start(): Promise<void> {
    const rows = await this.#store
      .selectFrom('jobs')
      .selectAll()
      .where('state', 'in', ['queued', 'running', 'waiting'])
      .execute();
    for (const row of rows) if (this.#kinds.has(row.kind)) this.#launch(row);
  }

  async close(): Promise<void> {
    for (const { stop } of this.#running.values()) stop.abort(STOPPED);
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }

  /** A host came back: what waits for one tries again now. */
  wake(): void {
    for (const { wake } of this.#running.values()) wake.abort();
  }

  /** Takes the leases and begins. Throws `volume-in-use`, naming the holder, before anything is recorded. */
  async submit<P, N>(kind: JobKind<P, N>, params: P, actor: string): Promise<JobInfo> {
    const now = clock.now();
    const row = await this.#store
      .insertInto('jobs')
      .values({
        kind: kind.kind,
        state: 'queued',
        params: JSON.stringify(params),
        notes: '{}',
        done_bytes: 0,
        total_bytes: 0,
        wire_bytes: 0,
        error_code: null,
        error_message: null,
        cancel_requested: 0,
        created_by: actor,
        created_at: now,
        updated_at: now,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    const leases: Lease[] = [];
    try {
      for (const { volume, mode } of kind.leases(params))
        leases.push(await this.#leases.acquire(volume, mode, `${kind.kind} by ${actor}`, row.id));
    } catch (error) {
      for (const lease of leases) await lease[Symbol.asyncDispose]();
      await this.#store.deleteFrom('jobs').where('id', '=', row.id).execute();
      throw error;
    }
    if (this.#kinds.has(kind.kind)) this.#launch(row);
    return { ...row, steps: [] };
  }

  #launch(row: JobRow): void {
    const entry = { stop: new AbortController(), wake: new AbortController(), ended: Promise.resolve() };
    this.#running.set(row.id, entry);
    entry.ended = this.#run(row, entry)
      // The store could not be written: the job stays as it is recorded, and the next start carries on.
      .catch(() => undefined)
      .finally(() => this.#running.delete(row.id));
  }

  async #update(id: number, values: Partial<JobRow>): Promise<void> {
    await this.#store
      .updateTable('jobs')
      .set({ ...values, updated_at: clock.now() })
      .where('id', '=', id)
      .execute();
    this.#inventory.tell({ type: 'job', now: { id, ...values } });
  }

  #context(row: JobRow, signal: AbortSignal): JobContext<never, never> & { flush(): Promise<void> } {
    let pending: Partial<JobRow> | undefined;
    let last = 0;
    let claims = 0;
    const flush = async (): Promise<void> => {
      if (!pending) return;
      const values = pending;
      pending = undefined;
      last = clock.now();
      await this.#update(row.id, values);
    };
    const context = {
      jobId: row.id,
      params: JSON.parse(row.params) as never,
      notes: JSON.parse(row.notes) as never,
      signal,
      inventory: this.#inventory,
      save: () => this.#update(row.id, { notes: JSON.stringify(context.notes) }),
      agent: (host: string) => this.#fleet.client(host),
      fence: async (volume: string) => {
        const token = await this.#leases.ofJob(row.id, volume);
        if (token === undefined) throw new StowageError('fence-stale', `the job holds no lease on ${volume}`);
        return token;
      },
      addresses: (host: string) => this.#fleet.addresses(host),
      claim: (host: string, text: string) => {
        if (++claims > MOST_CLAIMS) return;
        const record = {
          actor: `agent of ${host}`,
          source: 'agent',
          action: `job.${row.kind}`,
          target: targetOf(row),
          outcome: 'refused',
          detail: `job ${row.id}: the agent of ${host} claims: ${text}`,
        } as const;
        void this.#audit.append(record).catch(() => undefined);
      },
      progress: (done_bytes: number, total_bytes: number, wire_bytes: number) => {
        pending = { done_bytes, total_bytes, wire_bytes };
        if (clock.now() - last > PROGRESS_MS) void flush().catch(() => undefined);
      },
      flush,
    };
    return context;
  }

  async #run(row: JobRow, entry: { stop: AbortController; wake: AbortController }): Promise<void> {
    const kind = this.#kinds.get(row.kind)!;
    const context = this.#context(row, entry.stop.signal);
    const commitIndex = kind.commitStep
      ? kind.steps.findIndex((step) => step.name === kind.commitStep)
      : kind.steps.length;
    const finished = await this.#finishedSteps(row.id);
    let number = 0;
    try {
      if (row.cancel_requested && finished.size <= commitIndex) throw CANCELLED;
      await this.#holdLeases(row, kind);
      await this.#update(row.id, { state: 'running', error_code: null, error_message: null });
      for (; number < kind.steps.length; number++) {
        if (finished.has(number)) continue;
        await this.#runStep(row.id, kind, number, context, entry, number > commitIndex);
        await context.flush();
      }
      await this.#end(row, 'done', undefined);
    } catch (error) {
      if (entry.stop.signal.reason === STOPPED) return; // recorded as it is; the next process carries on
      const known = error === CANCELLED || entry.stop.signal.aborted ? CANCELLED : toStowageError(error);
      const undoing = this.#context(
        { ...row, notes: JSON.stringify(context.notes) },
        new AbortController().signal,
      );
      if (number <= commitIndex) await kind.undo?.(undoing).catch(() => undefined);
      await this.#end(row, known.code === 'cancelled' ? 'cancelled' : 'failed', known);
    }
  }

  /** A kill may have come between the job's record and its leases: it does nothing without them. Throws `volume-in-use`. */
  async #holdLeases(row: JobRow, kind: AnyKind): Promise<void> {
    for (const { volume, mode } of kind.leases(JSON.parse(row.params) as never))
      if ((await this.#leases.ofJob(row.id, volume)) === undefined)
        await this.#leases.acquire(volume, mode, `${kind.kind} by ${row.created_by}`, row.id);
  }

  async #finishedSteps(jobId: number): Promise<Set<number>> {
    const steps = await this.#store
      .selectFrom('job_steps')
      .select('number')
      .where('job_id', '=', jobId)
      .where('finished_at', 'is not', null)
      .execute();
    return new Set(steps.map((step) => step.number));
  }

  /** Runs one step until it succeeds, as long as its errors pass by themselves. After the commit, all of them must. */
  async #runStep(
    jobId: number,
    kind: AnyKind,
    number: number,
    context: JobContext<never, never>,
    entry: { stop: AbortController; wake: AbortController },
    forwardOnly: boolean,
  ): Promise<void> {
    const step = kind.steps[number]!;
    const begun = { job_id: jobId, number, name: step.name, started_at: clock.now(), finished_at: null };
    await this.#store
      .insertInto('job_steps')
      .values(begun)
      .onConflict((c) => c.columns(['job_id', 'number']).doNothing())
      .execute();
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        await step.run(context);
        break;
      } catch (error) {
        const stopped = (): boolean =>
          entry.stop.signal.aborted && (!forwardOnly || entry.stop.signal.reason === STOPPED);
        if (stopped()) throw error;
        const known = toStowageError(error);
        // Somebody wrote to the source after it was sent: both volumes stay, and a person decides.
        const forPeople = known.code === 'volume-changed';
        if (forPeople || (!TRANSIENT.has(known.code) && !forwardOnly)) throw known;
        await this.#update(jobId, { state: 'waiting', error_code: known.code, error_message: known.message });
        entry.wake = new AbortController();
        // A cancel that came too late must not turn the pause into none.
        const signal =
          forwardOnly && !stopped()
            ? entry.wake.signal
            : AbortSignal.any([entry.stop.signal, entry.wake.signal]);
        await sleep(pauseMs * (0.5 + clock.random()), signal).catch(() => undefined);
        if (stopped()) throw error;
        await this.#update(jobId, { state: 'running', error_code: null, error_message: null });
      }
    }
    await this.#store
      .updateTable('job_steps')
      .set({ finished_at: clock.now() })
      .where('job_id', '=', jobId)
      .where('number', '=', number)
      .execute();
  }

  async #end(
    row: JobRow,
    state: 'done' | 'failed' | 'cancelled',
    error: StowageError | undefined,
  ): Promise<void> {
    const target = targetOf(row);
    const outcome = state === 'done' ? 'done' : 'failed';
    const detail = `job ${row.id}${error ? `: ${error.message} [${error.code}]` : ''}`;
    await this.#audit
      .append({
        actor: row.created_by,
        source: 'controller',
        action: `job.${row.kind}`,
        target,
        outcome,
        detail,
      })
      .catch(() => undefined);
    const values = { state, error_code: error?.code ?? null, error_message: error?.message ?? null };
    // Both or neither: a job that has ended holds nothing.
    await this.#store.transaction().execute(async (store) => {
      await store
        .updateTable('jobs')
        .set({ ...values, updated_at: clock.now() })
        .where('id', '=', row.id)
        .execute();
      await store.deleteFrom('leases').where('job_id', '=', row.id).execute();
    });
    this.#inventory.tell({ type: 'job', now: { id: row.id, ...values } });
  }

  // ---- what people ask ----

  /** The newest first. */
  async list({
    limit,
    before,
    state,
  }: {
    limit: number;
    before?: number;
    state?: JobState;
  }): Promise<JobRow[]> {
    let query = this.#store.selectFrom('jobs').selectAll();
    if (state !== undefined) query = query.where('state', '=', state);
    if (before !== undefined) query = query.where('id', '<', before);
    return query.orderBy('id', 'desc').limit(limit).execute();
  }

  async get(id: number): Promise<JobInfo> {
    const row = await this.#store.selectFrom('jobs').selectAll().where('id', '=', id).executeTakeFirst();
    if (!row) throw new StowageError('job-not-found', `there is no job ${id}`);
    const steps = await this.#store
      .selectFrom('job_steps')
      .selectAll()
      .where('job_id', '=', id)
      .orderBy('number')
      .execute();
    return { ...row, steps };
  }

  /** Asks a job to stop and roll back. Refused with `job-state` when it has ended or can only go forward. */
  async cancel(id: number): Promise<JobInfo> {
    const job = await this.get(id);
    if (ENDED.includes(job.state)) throw new StowageError('job-state', `job ${id} has ended: ${job.state}`);
    const kind = this.#kinds.get(job.kind);
    if (kind && job.steps.some((step) => step.name === kind.commitStep)) {
      throw new StowageError(
        'job-state',
        `job ${id} has put the new volume in place and only goes forward now`,
      );
    }
    await this.#update(id, { cancel_requested: 1 });
    this.#running.get(id)?.stop.abort(CANCELLED);
    await this.#running.get(id)?.ended;
    return this.get(id);
  }

  /**
   * Begins again what a failed or cancelled job was for, as a new job that checks everything anew: that domains use the volume
   * must be allowed again.
   */
  async retry(id: number, actor: string, allowUsed: boolean): Promise<JobInfo> {
    const job = await this.get(id);
    if (job.state !== 'failed' && job.state !== 'cancelled')
      throw new StowageError('job-state', `job ${id} is ${job.state}`);
    const kind = this.#kinds.get(job.kind);
    if (!kind) throw new StowageError('job-state', `a ${job.kind} is begun again by its client`);
    const params: unknown = { ...JSON.parse(job.params), allowUsed };
    return this.submit(kind, kind.params.parse(params), actor);
  }

  /** Ends a job that is driven from outside, such as an upload. */
  async finish(id: number, error?: unknown): Promise<void> {
    const row = await this.get(id);
    const known = error === undefined ? undefined : toStowageError(error);
    await this.#end(
      row,
      known === undefined ? 'done' : isStowageError(known, 'cancelled') ? 'cancelled' : 'failed',
      known,
    );
  }

  async report(
    id: number,
    values: Partial<Pick<JobRow, 'state' | 'notes' | 'done_bytes' | 'total_bytes' | 'wire_bytes'>>,
  ): Promise<void> {
    await this.#update(id, values);
  }
}

/** The volume that a job is about, for the audit trail. */
function targetOf(row: JobRow): string {
  const { target, volume } = JSON.parse(row.params) as { target?: string; volume?: string };
  return target ?? volume ?? '';
}
