import type { Attributes, Span } from '@opentelemetry/api';
import { taskOf } from '../../shared/protocol/job-words.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { Passphrases } from '../secrets/passphrases.ts';
import type { Change } from '../store/repositories/events.ts';
import { hostsOf, type JobChanges, type JobRecord, type Turn } from '../store/repositories/jobs.ts';
import type { Store, Transaction } from '../store/store.ts';
import { inSpan, type SpanOptions, untraced } from '../traces/span.ts';
import { type JobContext, type JobKind, TRANSIENT } from './job.ts';
import { acquireIn } from './leases.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const PROGRESS_MS = 400;
/** What a step asks of agents is traced in its first tries: it may be tried for days. */
const TRACED_TRIES = 3;
/** What agents claim fills no trail: so many claims are recorded of one job in one life of the controller. */
const MOST_CLAIMS = 20;
/** Between two tries when the store cannot be read or written. */
const STORE_MS = 1000;

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
  passphrases: Passphrases;
  /** The id of this controller. */
  owner: string;
  /** So many jobs work on a host at a time. */
  jobsPerHost: number;
  /** Told of bytes that jobs have sent over the network. */
  carried(bytes: number): void;
}

/** One job being worked on by this controller, from wherever it stands to its end or until it is stopped. */
export class JobRun {
  readonly #parts: RunParts;
  readonly #kind: AnyKind;
  readonly #job: JobRecord;
  readonly #stop = new AbortController();
  /** Nothing more is written here, not even an end. */
  readonly #halt = new AbortController();
  /** By volume. */
  readonly #fences = new Map<string, number>();
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

  /** They go on with the trace of whoever asked for the job. */
  get #spanOptions(): SpanOptions & { attributes: Attributes } {
    const { id, source, target, createdBy, traceparent = null } = this.#job;
    const places = { 'stowage.source': source, 'stowage.target': target };
    return { parent: traceparent, attributes: { 'stowage.job': id, 'user.name': createdBy, ...places } };
  }

  async #run(): Promise<void> {
    const kind = this.#kind;
    const commitIndex = kind.commitStep
      ? kind.steps.findIndex((step) => step.name === kind.commitStep)
      : kind.steps.length;
    const context = this.#context(this.#stop.signal);
    const finished = new Set<number>();
    let number = 0;
    try {
      for (const step of await this.#persist(() => this.#parts.store.jobs.steps(this.#job.id)))
        if (step.finishedAt !== undefined) finished.add(step.number);
      if (this.#job.cancelRequested && finished.size <= commitIndex) throw CANCELLED;
      await this.#holdLeases();
      if (!(await this.#takeTurn())) return;
      const isThrough = await inSpan(`job ${kind.kind}`, this.#spanOptions, async () => {
        try {
          for (; number < kind.steps.length; number++) {
            if (finished.has(number)) continue;
            if (!(await this.#runStep(number, context, number > commitIndex))) return false;
            await context.flush();
          }
        } catch (error) {
          // What broke when it was stopped is not why it ended.
          this.#stop.signal.throwIfAborted();
          throw error;
        }
        return true;
      });
      if (isThrough) await this.#end('done', undefined);
    } catch (error) {
      const { aborted, reason } = this.#stop.signal;
      // As it is recorded, the next process, or the one that has it now, carries on.
      if (this.#halt.signal.aborted) return;
      if (aborted && reason === PAUSED) return this.#update({ state: 'paused', error: null });
      const known = aborted ? CANCELLED : toStowageError(error);
      if (number <= commitIndex && kind.undo) {
        // What another has taken over is not undone under its hands.
        await this.#own(async () => undefined);
        const undoing = this.#context(this.#halt.signal, context.notes);
        await inSpan(`undo ${kind.kind}`, this.#spanOptions, () => kind.undo!(undoing)).catch(
          () => undefined,
        );
      }
      await this.#end(known.code === 'cancelled' ? 'cancelled' : 'failed', known);
    }
  }

  /**
   * Reads or writes what the job needs in the store, again and again while the store cannot be: that is no failure of the job.
   * Throws what is an error of the work itself, and the reason when nothing more may be done here.
   */
  async #persist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      this.#halt.signal.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (isStowageError(error)) throw error;
        await sleep(STORE_MS, this.#halt.signal).catch(() => undefined);
      }
    }
  }

  /** Writes in a transaction in which the job is this controller's; throws {@link TAKEN} when it is not any more. */
  async #own(
    work: (transaction: Transaction, job: JobRecord) => Promise<Change[] | undefined>,
  ): Promise<void> {
    const { events, owner } = this.#parts;
    await this.#persist(() =>
      events.write(async (transaction) => {
        const job = await transaction.jobs.find(this.#job.id);
        if (job?.owner !== owner) {
          this.stop(TAKEN);
          throw TAKEN;
        }
        return (await work(transaction, job)) ?? [];
      }),
    );
  }

  #changed(): Change[] {
    return [{ type: 'job', job: this.#job.id }];
  }

  #update(changes: JobChanges): Promise<void> {
    return this.#own(async ({ jobs }) => {
      await jobs.update(this.#job.id, this.#parts.owner, changes, clock.now());
      return this.#changed();
    });
  }

  #context(signal: AbortSignal, notes?: object): JobContext<never, never> & { flush(): Promise<void> } {
    const job = this.#job;
    const { fleet, inventory, audit, passphrases, carried } = this.#parts;
    let carriedBytes = job.wireBytes;
    let pending: JobChanges | undefined;
    let last = 0;
    let claims = 0;
    let writing: Promise<void> | undefined;
    /** One at a time, the newest only: a slow store gets no queue of what is old. */
    const flush = async (): Promise<void> => {
      await writing;
      if (!pending) return;
      const values = pending;
      pending = undefined;
      last = clock.now();
      writing = this.#update(values).finally(() => {
        writing = undefined;
      });
      await writing;
    };
    const context = {
      jobId: job.id,
      params: job.params as never,
      notes: (notes ?? job.notes) as never,
      signal,
      halt: this.#halt.signal,
      inventory,
      save: () => this.#update({ notes: context.notes }),
      agent: (host: string) => fleet.client(host),
      fence: async (volume: string) => {
        const token = this.#fences.get(volume);
        if (token === undefined) throw new StowageError('fence-stale', `the job holds no lease on ${volume}`);
        return token;
      },
      passphrases,
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
        carried(wireBytes - carriedBytes);
        carriedBytes = wireBytes;
        if (!writing && clock.now() - last > PROGRESS_MS) void flush().catch(() => undefined);
      },
      flush,
    };
    return context;
  }

  /**
   * Learns the tokens that go with this claim on the job: after another controller has taken it over they are refused. Stores of
   * earlier versions may have a job that was killed before it had its leases. Throws `volume-in-use`.
   */
  async #holdLeases(): Promise<void> {
    const { id, createdBy, params } = this.#job;
    await this.#own(async (transaction) => {
      for (const { volume, token } of await transaction.leases.ofJob(id)) this.#fences.set(volume, token);
      for (const { volume, mode } of this.#kind.leases(params as never)) {
        if (this.#fences.has(volume)) continue;
        const request = { volume, mode, holder: `${taskOf(this.#job)} by ${createdBy}`, jobId: id };
        this.#fences.set(volume, (await acquireIn(transaction, request, this.#parts.owner)).token);
      }
      return undefined;
    });
  }

  /**
   * Whether the job is `running` now: all its hosts are there, and have a place for it. Else it is `queued`, and this run is over.
   * Older jobs go first.
   */
  async #takeTurn(): Promise<boolean> {
    const { owner, jobsPerHost } = this.#parts;
    const { id } = this.#job;
    this.#stop.signal.throwIfAborted();
    let turn: Turn = { has: false };
    await this.#own(async ({ jobs }, now) => {
      // Asked for since this run was begun.
      if (now.pauseRequested) this.stop(PAUSED);
      if (this.#stop.signal.aborted) return undefined;
      turn = await jobs.turn(now, jobsPerHost);
      const error =
        turn.away === undefined ? null : { code: 'host-unreachable', message: `host '${turn.away}' is away` };
      const state = turn.has ? 'running' : 'queued';
      if (turn.has) await jobs.setStarted(id, clock.now());
      if (now.state === state && now.error?.message === error?.message) return undefined;
      await jobs.update(id, owner, { state, error }, clock.now());
      return this.#changed();
    });
    this.#stop.signal.throwIfAborted();
    return turn.has;
  }

  /**
   * Runs one step until it succeeds, as long as its errors pass by themselves. After the commit, all of them must. False when
   * the job has waited and its place is another's now: it is queued again.
   */
  #runStep(number: number, context: JobContext<never, never>, forwardOnly: boolean): Promise<boolean> {
    const { name } = this.#kind.steps[number]!;
    const { attributes } = this.#spanOptions;
    return inSpan(name, { attributes }, (span) => this.#tryStep(number, context, forwardOnly, span));
  }

  async #tryStep(
    number: number,
    context: JobContext<never, never>,
    forwardOnly: boolean,
    span: Span,
  ): Promise<boolean> {
    const { id } = this.#job;
    const step = this.#kind.steps[number]!;
    let tries = 0;
    await this.#own(async ({ jobs }) => void (await jobs.beginStep(id, number, step.name, clock.now())));
    // Too late for a cancel: the job goes on to its end.
    const isStopped = (): boolean => this.#halt.signal.aborted || (this.#stop.signal.aborted && !forwardOnly);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        span.setAttribute('stowage.tries', ++tries);
        const run = (): Promise<void> => step.run(context);
        await (tries <= TRACED_TRIES ? run() : untraced(run));
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
    await this.#own(async ({ jobs }) => void (await jobs.finishStep(id, number, clock.now())));
    return true;
  }

  /** As long as it cannot be put on record the job has not ended, and holds what it holds. */
  async #end(state: 'done' | 'failed' | 'cancelled', error: StowageError | undefined): Promise<void> {
    await this.#persist(() => endJob(this.#parts, this.#job, state, error));
  }
}

/**
 * The end of a job: its state, its leases, its record in the trail and the event, all of it or nothing. False when it has ended
 * before, or is another controller's now.
 */
export async function endJob(
  { events, audit, owner }: Pick<RunParts, 'events' | 'audit' | 'owner'>,
  job: Pick<JobRecord, 'id' | 'kind' | 'target' | 'createdBy'>,
  state: 'done' | 'failed' | 'cancelled',
  error: StowageError | undefined,
): Promise<boolean> {
  const { id, kind, target, createdBy: actor } = job;
  let hasEnded = false;
  await events.write(async (transaction) => {
    const why = error && { code: error.code, message: error.message };
    hasEnded = await transaction.jobs.end(id, owner, state, why, clock.now());
    if (!hasEnded) return [];
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
  return hasEnded;
}
