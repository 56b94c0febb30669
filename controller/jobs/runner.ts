import type { FleetTotals, Job, JobDetails, JobState } from '../../shared/protocol/api.ts';
import { taskOf } from '../../shared/protocol/job-words.ts';
import { ENDED_STATES } from '../../shared/protocol/lists.ts';
import { clock, type Timer } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import {
  hostsOf,
  type JobChanges,
  type JobFilter,
  type JobRecord,
  publicJob,
} from '../store/repositories/jobs.ts';
import { traceparent } from '../traces/span.ts';
import type { JobKind } from './job.ts';
import { type AnyKind, CANCELLED, endJob, JobRun, PAUSED, type RunParts, STOPPED, TAKEN } from './job-run.ts';
import { acquireIn } from './leases.ts';

/** A claim lasts so long unless it is renewed. */
const CLAIM_MS = 30_000;
const RENEW_MS = 10_000;
/** How often it is looked for turns that nobody has told of. */
const TURNS_MS = 15_000;
/** A place in a queue beyond this is not counted out. */
const LAST_PLACE = 1000;

/**
 * The jobs of this controller: each is one that it has claimed, and goes on claiming as long as it lives. What a controller
 * that is gone has left, another takes over when its claim has ended, with fences that the old one has not.
 */
export class JobRunner {
  readonly #parts: RunParts;
  readonly #kinds = new Map<string, AnyKind>();
  readonly #runs = new Map<number, JobRun>();
  #timers: Timer[] = [];
  #claimedUntil = 0;
  #isClosed = false;

  constructor(parts: RunParts) {
    this.#parts = parts;
  }

  register<P extends object, N>(kind: JobKind<P, N>): void {
    this.#kinds.set(kind.kind, kind as unknown as AnyKind);
  }

  /** Carries on with the jobs that this controller had before, and with those that nobody has. */
  async start(): Promise<void> {
    const { store, owner } = this.#parts;
    await this.#renew();
    for (const job of await store.jobs.unended()) if (job.owner === owner) await this.#resume(job);
    await this.#takeOver();
    await this.#dispatch();
    this.#timers = [
      clock.every(RENEW_MS, () => void this.#keepClaims(), false),
      clock.every(TURNS_MS, () => void this.#dispatch().catch(() => undefined), false),
    ];
  }

  /** Stops all work; what is recorded stays as it is. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.stop();
    const runs = [...this.#runs.values()];
    for (const run of runs) run.stop(STOPPED);
    await Promise.all(runs.map((run) => run.ended));
  }

  /** A host came back: what waits for it tries again now. */
  wake(host: string): void {
    for (const run of this.#runs.values()) run.wake(host);
    // The timer looks again where the store cannot be read now.
    void this.#dispatch([host]).catch(() => undefined);
  }

  /** Begins the queued jobs, on some hosts or on all, whose turn has come; of the others none is touched. */
  async #dispatch(hosts?: Iterable<string>): Promise<void> {
    const { store, owner, jobsPerHost } = this.#parts;
    for (const job of await store.jobs.nextQueued(owner, jobsPerHost, hosts))
      if ((await store.jobs.turn(job, jobsPerHost)).has) this.#launch(job);
  }

  async #keepClaims(): Promise<void> {
    try {
      await this.#renew();
      await this.#takeOver();
    } catch {
      // Others may have taken the jobs over by now: whoever cannot tell stops.
      if (clock.now() > this.#claimedUntil) for (const run of this.#runs.values()) run.stop(TAKEN);
    }
  }

  /** Says that this controller is alive, and hears what was asked of its jobs through another one. */
  async #renew(): Promise<void> {
    const { store, owner } = this.#parts;
    const until = clock.now() + CLAIM_MS;
    const ours = await store.transaction(({ jobs }) => jobs.renew(owner, until));
    this.#claimedUntil = until;
    const known = new Set(ours.map(({ id }) => id));
    for (const [id, run] of this.#runs) if (!known.has(id)) run.stop(TAKEN);
    for (const { id, cancelRequested, pauseRequested } of ours) {
      if (cancelRequested) this.#runs.get(id)?.stop(CANCELLED);
      else if (pauseRequested) this.#runs.get(id)?.stop(PAUSED);
    }
  }

  /** Claims the jobs that nobody has. The tokens of their leases rise: whoever had them is refused from now on. */
  async #takeOver(): Promise<void> {
    const { store, owner } = this.#parts;
    const now = clock.now();
    if ((await store.jobs.unclaimed(now)).length === 0) return;
    const taken = await store.transaction(async ({ jobs, leases }) => {
      const free = await jobs.unclaimed(now);
      for (const job of free) {
        for (const lease of await leases.ofJob(job.id))
          await leases.setToken(lease.id, await leases.nextToken(lease.object, now));
        await jobs.claim(job.id, owner, now + CLAIM_MS);
      }
      return free;
    });
    for (const job of taken) await this.#resume({ ...job, owner });
    if (taken.length > 0) await this.#dispatch();
  }

  /**
   * Records a job and its leases, both or none, and begins; a failed job `instead` of which it is, is dismissed with that. Throws
   * `volume-in-use`, naming the holder, with nothing recorded.
   */
  async submit<P extends object, N>(
    kind: JobKind<P, N>,
    params: P,
    actor: string,
    instead?: number,
  ): Promise<Job> {
    const { events, owner, jobsPerHost } = this.#parts;
    let job: JobRecord | undefined;
    let hasTurn = false;
    await events.write(async (transaction) => {
      const now = clock.now();
      const asked = {
        ...kind.places(params),
        ...{ kind: kind.kind, params, createdBy: actor, owner },
        ...{ claimedUntil: now + CLAIM_MS, traceparent: traceparent() },
      };
      job = await transaction.jobs.insert(asked, this.#kinds.has(kind.kind), now);
      if (instead !== undefined) await transaction.jobs.dismiss(instead, now);
      const holder = `${taskOf(job)} by ${actor}`;
      for (const { volume, mode } of kind.leases(params))
        await acquireIn(transaction, { volume, mode, holder, jobId: job.id }, owner);
      hasTurn = (await transaction.jobs.turn(job, jobsPerHost)).has;
      return [job.id, ...(instead === undefined ? [] : [instead])].map((id) => ({ type: 'job', job: id }));
    });
    if (hasTurn) this.#launch(job!);
    return publicJob(job!);
  }

  /** Goes on with one that was begun; one that is queued waits for its turn, one that is paused for a person. */
  async #resume(job: JobRecord): Promise<void> {
    if (job.cancelRequested) this.#launch(job);
    else if (job.pauseRequested) await this.#standStill(job.id, ['running', 'waiting', 'queued']);
    else if (job.state !== 'queued') this.#launch(job);
  }

  /** Notes that a job that nobody works on is paused, when it is in one of some states. */
  async #standStill(id: number, states: readonly JobState[]): Promise<void> {
    const { events, owner } = this.#parts;
    await events.write(async ({ jobs }) => {
      const job = await jobs.find(id);
      if (!job?.pauseRequested || !states.includes(job.state) || this.#runs.has(id)) return [];
      await jobs.update(id, owner, { state: 'paused' }, clock.now());
      return [{ type: 'job', job: id }];
    });
  }

  #launch(job: JobRecord): void {
    const kind = this.#kinds.get(job.kind);
    // Uploads are driven by their clients.
    if (!kind || this.#isClosed || this.#runs.has(job.id)) return;
    const run = new JobRun(this.#parts, kind, job);
    this.#runs.set(job.id, run);
    void run.ended.then(async () => {
      this.#runs.delete(job.id);
      // Its place is free. The timer looks again where the store cannot be read now.
      if (!this.#isClosed) await this.#dispatch(run.hosts).catch(() => undefined);
    });
  }

  // ---- what is asked ----

  /** The newest first. */
  async list(filter: JobFilter): Promise<Job[]> {
    const jobs = await this.#parts.store.jobs.list(filter);
    return Promise.all(jobs.map((job) => this.#public(job)));
  }

  /** Those of a kind that have not ended, whatever they wait for. */
  async unended(kind: string): Promise<Job[]> {
    return (await this.#parts.store.jobs.unended(kind)).map(publicJob);
  }

  async #public(job: JobRecord): Promise<Job> {
    if (job.state !== 'queued') return publicJob(job);
    const { jobs } = this.#parts.store;
    const waitsFor = await jobs.hostAway(job);
    return { ...publicJob(job), queuePosition: await jobs.ahead(job, LAST_PLACE), waitsFor };
  }

  async #record(id: number): Promise<JobRecord> {
    const job = await this.#parts.store.jobs.find(id);
    if (!job) throw new StowageError('job-not-found', `there is no job ${id}`);
    return job;
  }

  totals(scopes: readonly string[]): Promise<FleetTotals['jobs']> {
    return this.#parts.store.jobs.totals(scopes);
  }

  /** Throws `job-not-found`. */
  async get(id: number): Promise<JobDetails> {
    const job = await this.#record(id);
    const steps = await this.#parts.store.jobs.steps(id);
    return { ...(await this.#public(job)), steps: steps.map(({ number: _, ...step }) => step) };
  }

  /** A job that can still be stopped. Throws `job-state` for one that has ended or only goes forward now. */
  async #stoppable(id: number): Promise<JobRecord> {
    const job = await this.#record(id);
    if (ENDED_STATES.includes(job.state))
      throw new StowageError('job-state', `job ${id} has ended: ${job.state}`);
    const commitStep = this.#kinds.get(job.kind)?.commitStep;
    const steps = await this.#parts.store.jobs.steps(id);
    if (commitStep !== undefined && steps.some((step) => step.name === commitStep))
      throw new StowageError(
        'job-state',
        `job ${id} has put the new volume in place and only goes forward now`,
      );
    return job;
  }

  /** Asks a job to stop and roll back, and waits for that where it runs here. */
  async cancel(id: number): Promise<JobDetails> {
    await this.#stoppable(id);
    await this.#parts.store.transaction(({ jobs }) => jobs.request(id, 'cancel'));
    await this.#stop(id, CANCELLED);
    const job = await this.#record(id);
    // One that is queued or paused runs only to be undone.
    if (!ENDED_STATES.includes(job.state) && job.owner === this.#parts.owner) {
      this.#launch(job);
      await this.#runs.get(id)?.ended;
    }
    return this.get(id);
  }

  /** Settles when a job is not worked on here any more. */
  async #stop(id: number, reason: StowageError): Promise<void> {
    const run = this.#runs.get(id);
    run?.stop(reason);
    await run?.ended;
  }

  /** Asks a job to stand still; what it has done stays, and so does what it holds. */
  async pause(id: number): Promise<JobDetails> {
    const { kind } = await this.#stoppable(id);
    if (!this.#kinds.has(kind))
      throw new StowageError('job-state', `a job of the kind ${kind} is paused by its client, not here`);
    await this.#parts.store.transaction(({ jobs }) => jobs.request(id, 'pause'));
    // Its turn may come meanwhile: then it is stopped again.
    do {
      await this.#stop(id, PAUSED);
      await this.#standStill(id, ['queued']);
    } while (this.#runs.has(id));
    return this.get(id);
  }

  /** Lets a paused job go on when its turn comes. */
  async resume(id: number): Promise<JobDetails> {
    const { events, owner } = this.#parts;
    const job = await this.#record(id);
    if (job.state !== 'paused' && !job.pauseRequested)
      throw new StowageError('job-state', `job ${id} is not paused: it is ${job.state}`);
    await this.#runs.get(id)?.ended;
    await events.write(async ({ jobs }) => {
      await jobs.request(id, 'resume');
      await jobs.update(id, job.owner ?? owner, { state: 'queued' }, clock.now());
      // One of another controller that does not live any more is taken.
      if (job.owner !== owner) await jobs.claim(id, job.owner ?? owner, 0);
      return [{ type: 'job', job: id }];
    });
    await this.#dispatch(hostsOf(job));
    return this.get(id);
  }

  /**
   * Begins again what a failed or cancelled job was for, as a new job that checks everything anew: that domains use the volume
   * must be allowed again. One that has failed is dismissed with it.
   */
  async retry(id: number, actor: string, allowUsed: boolean): Promise<Job> {
    const job = await this.#record(id);
    if (job.state !== 'failed' && job.state !== 'cancelled')
      throw new StowageError('job-state', `job ${id} is ${job.state}`);
    const kind = this.#kinds.get(job.kind);
    if (!kind)
      throw new StowageError(
        'job-state',
        job.kind === 'upload'
          ? 'an upload is begun again by whoever sends it, such as by vol upload'
          : `a job of the kind ${job.kind} is not begun again`,
      );
    return this.submit(kind, kind.params.parse({ ...job.params, allowUsed }), actor, id);
  }

  /** A failed job wants no attention any more. Repeatable. Throws `job-state` for any other. */
  async dismiss(id: number): Promise<JobDetails> {
    const { state } = await this.#record(id);
    await this.#parts.events.write(async ({ jobs }) => {
      if (!(await jobs.dismiss(id, clock.now())))
        throw new StowageError('job-state', `only a failed job is dismissed; job ${id} is ${state}`);
      return [{ type: 'job', job: id }];
    });
    return this.get(id);
  }

  // ---- jobs that are driven from outside, such as uploads ----

  async report(id: number, changes: JobChanges): Promise<void> {
    const { events, owner } = this.#parts;
    await events.write(async ({ jobs }) =>
      (await jobs.update(id, owner, changes, clock.now())) ? [{ type: 'job', job: id }] : [],
    );
  }

  async finish(id: number, error?: unknown): Promise<void> {
    const job = await this.#record(id);
    const known = error === undefined ? undefined : toStowageError(error);
    const state = known === undefined ? 'done' : isStowageError(known, 'cancelled') ? 'cancelled' : 'failed';
    if (!(await endJob(this.#parts, job, state, known)))
      throw new StowageError('job-state', `job ${id} has ended, or is another controller's`);
  }
}
