import { clock, sleep } from '../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import { hostsOf, type JobChanges, type JobRecord } from '../store/repositories/jobs.ts';
import type { Store } from '../store/store.ts';
import { type JobContext, type JobKind, TRANSIENT } from './job.ts';
import { acquireIn } from './leases.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const PROGRESS_MS = 400;
/** What agents claim fills no trail: so many claims are recorded of one job in one life of the controller. */
const MOST_CLAIMS = 20;
/** Between two tries to put the end of a job on record. */
const END_MS = 1000;

export type AnyKind = JobKind<never, never>;

/** Why a run is stopped. */
export const STOPPED = new StowageError('cancelled', 'the controller is stopping');
export const TAKEN = new StowageError('cancelled', 'another controller has taken the job over');
export const CANCELLED = new StowageError('cancelled', 'the job was cancelled');
export const PAUSED = new StowageError('cancelled', 'the job was paused');

export interface RunParts {
  store: Store;
  events: EventLog;
  fleet: Fleet;
  inventory: Inventory;
  audit: AuditTrail;
  /** The id of this controller. */
  owner: string;
  /** So many jobs work on a host at a time. */
  jobsPerHost: number;
}

/** One job being worked on by this controller, from wherever it stands to its end or until it is stopped. */
export class JobRun {
  readonly #parts: RunParts;
  readonly #kind: AnyKind;
  readonly #job: JobRecord;
  readonly #stop = new AbortController();
  /** Nothing more is written here, not even an end. */
  readonly #halt = new AbortController();
  #wake = new AbortController();
  /** Settles when nothing more is done for it here. */
  readonly ended: Promise<void>;

  constructor(parts: RunParts, kind: AnyKind, job: JobRecord) {
    this.#parts = parts;
    this.#kind = kind;
    this.#job = job;
    this.ended = this.#run().catch(() => undefined);
  }

  /** The first reason counts. */
  stop(reason: StowageError): void {
    this.#stop.abort(reason);
    if (reason === STOPPED || reason === TAKEN) this.#halt.abort(reason);
    this.#wake.abort();
  }

  /** What it waits for on a host may be there now. */
  wake(host: string): void {
    if (this.hosts.has(host)) this.#wake.abort();
  }

  /** Those that it works on. */
  get hosts(): ReadonlySet<string> {
    return hostsOf(this.#job);
  }

  async #run(): Promise<void> {
    const kind = this.#kind;
    const { store } = this.#parts;
    const commitIndex = kind.commitStep
      ? kind.steps.findIndex((step) => step.name === kind.commitStep)
      : kind.steps.length;
    const context = this.#context(this.#stop.signal);
    const finished = new Set<number>();
    let number = 0;
    try {
      for (const step of await store.jobs.steps(this.#job.id))
        if (step.finishedAt !== undefined) finished.add(step.number);
      if (this.#job.cancelRequested && finished.size <= commitIndex) throw CANCELLED;
      await this.#holdLeases();
      if (!(await this.#takeTurn())) return;
      for (; number < kind.steps.length; number++) {
        if (finished.has(number)) continue;
        if (!(await this.#runStep(number, context, number > commitIndex))) return;
        await context.flush();
      }
      await this.#end('done', undefined);
    } catch (error) {
      const { aborted, reason } = this.#stop.signal;
      // As it is recorded, the next process, or the one that has it now, carries on.
      if (this.#halt.signal.aborted) return;
      if (aborted && reason === PAUSED) return this.#update({ state: 'paused', error: null });
      const known = aborted ? CANCELLED : toStowageError(error);
      const undoing = this.#context(new AbortController().signal, context.notes);
      if (number <= commitIndex) await kind.undo?.(undoing).catch(() => undefined);
      await this.#end(known.code === 'cancelled' ? 'cancelled' : 'failed', known);
    }
  }

  /** Throws {@link TAKEN} when the job is not this controller's any more, or was ended by another. */
  async #update(changes: JobChanges): Promise<void> {
    const { events, owner } = this.#parts;
    const { id } = this.#job;
    let isOurs = true;
    await events.write(async ({ jobs }) => {
      isOurs = await jobs.update(id, owner, changes, clock.now());
      return isOurs ? [{ type: 'job', job: id }] : [];
    });
    if (isOurs) return;
    this.stop(TAKEN);
    throw TAKEN;
  }

  #context(signal: AbortSignal, notes?: object): JobContext<never, never> & { flush(): Promise<void> } {
    const job = this.#job;
    const { store, fleet, inventory, audit } = this.#parts;
    let pending: JobChanges | undefined;
    let last = 0;
    let claims = 0;
    const flush = async (): Promise<void> => {
      if (!pending) return;
      const values = pending;
      pending = undefined;
      last = clock.now();
      await this.#update(values);
    };
    const context = {
      jobId: job.id,
      params: job.params as never,
      notes: (notes ?? job.notes) as never,
      signal,
      inventory,
      save: () => this.#update({ notes: context.notes }),
      agent: (host: string) => fleet.client(host),
      fence: async (volume: string) => {
        const lease = (await store.leases.ofJob(job.id)).find((held) => held.volume === volume);
        if (!lease) throw new StowageError('fence-stale', `the job holds no lease on ${volume}`);
        return lease.token;
      },
      addresses: (host: string) => fleet.addresses(host),
      claim: (host: string, text: string) => {
        if (++claims > MOST_CLAIMS) return;
        const record = {
          actor: `agent of ${host}`,
          source: 'agent',
          action: `job.${job.kind}`,
          target: job.target,
          outcome: 'refused',
          detail: `job ${job.id}: the agent of ${host} claims: ${text}`,
        } as const;
        void audit.append(record).catch(() => undefined);
      },
      progress: (doneBytes: number, totalBytes: number, wireBytes: number) => {
        pending = { doneBytes, totalBytes, wireBytes };
        if (clock.now() - last > PROGRESS_MS) void flush().catch(() => undefined);
      },
      flush,
    };
    return context;
  }

  /** Stores of earlier versions may hold a job that was killed before it had its leases. Throws `volume-in-use`. */
  async #holdLeases(): Promise<void> {
    const { store, owner } = this.#parts;
    const { id, kind, createdBy, params } = this.#job;
    await store.transaction(async (transaction) => {
      const held = new Set((await transaction.leases.ofJob(id)).map(({ volume }) => volume));
      for (const { volume, mode } of this.#kind.leases(params as never))
        if (!held.has(volume))
          await acquireIn(transaction, { volume, mode, holder: `${kind} by ${createdBy}`, jobId: id }, owner);
    });
  }

  /** Whether the hosts of the job have a place for it, and it is `running` now; else it is `queued`. Older jobs go first. */
  async #takeTurn(): Promise<boolean> {
    const { events, owner, jobsPerHost } = this.#parts;
    const { id } = this.#job;
    this.#stop.signal.throwIfAborted();
    let isOurs = true;
    let hasTurn = false;
    await events.write(async ({ jobs }) => {
      const now = await jobs.find(id);
      isOurs = now?.owner === owner;
      if (!now || !isOurs) return [];
      hasTurn = (await jobs.ahead(now, jobsPerHost)) < jobsPerHost;
      const state = hasTurn ? 'running' : 'queued';
      if (hasTurn) await jobs.setStarted(id, clock.now());
      if (now.state === state && now.error === undefined) return [];
      await jobs.update(id, owner, { state, error: null }, clock.now());
      return [{ type: 'job', job: id }];
    });
    if (!isOurs) throw this.#taken();
    this.#stop.signal.throwIfAborted();
    return hasTurn;
  }

  #taken(): StowageError {
    this.stop(TAKEN);
    return TAKEN;
  }

  /**
   * Runs one step until it succeeds, as long as its errors pass by themselves. After the commit, all of them must. False when
   * the job has waited and its place is another's now: it is queued again.
   */
  async #runStep(number: number, context: JobContext<never, never>, forwardOnly: boolean): Promise<boolean> {
    const { store } = this.#parts;
    const { id } = this.#job;
    const step = this.#kind.steps[number]!;
    await store.transaction(({ jobs }) => jobs.beginStep(id, number, step.name, clock.now()));
    // Too late for a cancel: the job goes on to its end.
    const isStopped = (): boolean => this.#halt.signal.aborted || (this.#stop.signal.aborted && !forwardOnly);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        await step.run(context);
        break;
      } catch (error) {
        if (isStopped()) throw error;
        const known = toStowageError(error);
        // Somebody wrote to the source after it was sent: both volumes stay, and a person decides.
        const needsDecision = known.code === 'volume-changed';
        if (needsDecision || (!TRANSIENT.has(known.code) && !forwardOnly)) throw known;
        const { code, message } = known;
        await this.#update({ state: 'waiting', error: { code, message } });
        this.#wake = new AbortController();
        if (isStopped()) throw error;
        await sleep(pauseMs * (0.5 + clock.random()), this.#wake.signal).catch(() => undefined);
        if (isStopped()) throw error;
        if (forwardOnly) await this.#update({ state: 'running', error: null });
        else if (!(await this.#takeTurn())) return false;
      }
    }
    await store.transaction(({ jobs }) => jobs.finishStep(id, number, clock.now()));
    return true;
  }

  /** As long as it cannot be put on record the job has not ended, and holds what it holds. */
  async #end(state: 'done' | 'failed' | 'cancelled', error: StowageError | undefined): Promise<void> {
    for (;;) {
      try {
        return await endJob(this.#parts, this.#job, state, error);
      } catch {
        await sleep(END_MS, this.#halt.signal).catch(() => undefined);
        if (this.#halt.signal.aborted) return;
      }
    }
  }
}

/** The end of a job: its state, its leases, its record in the trail and the event, all of it or nothing. */
export async function endJob(
  { events, audit, owner }: Pick<RunParts, 'events' | 'audit' | 'owner'>,
  job: Pick<JobRecord, 'id' | 'kind' | 'target' | 'createdBy'>,
  state: 'done' | 'failed' | 'cancelled',
  error: StowageError | undefined,
): Promise<void> {
  const { id, kind, target, createdBy: actor } = job;
  await events.write(async (transaction) => {
    const why = error && { code: error.code, message: error.message };
    if (!(await transaction.jobs.end(id, owner, state, why, clock.now()))) return [];
    await transaction.leases.removeOfJob(id);
    await audit.appendIn(transaction, {
      ...{ actor, target },
      source: 'controller',
      action: `job.${kind}`,
      outcome: state === 'done' ? 'done' : 'failed',
      detail: `job ${id}${error ? `: ${error.message} [${error.code}]` : ''}`,
    });
    return [{ type: 'job', job: id }];
  });
}
