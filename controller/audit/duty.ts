import type { Logger } from 'pino';
import { unlessAborted } from '../../shared/util/abort.ts';
import { clock, sleep } from '../../shared/util/clock.ts';

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;
/** Whoever says so reads much of the trail each time. */
const DISPUTE_RETRY_MS = 600_000;
/** What takes longer is told as a standstill. */
const PATIENCE_MS = 60_000;

/** What is done with the trail all the time. */
export interface About {
  /** The kind of the item that wants attention while it stands still. */
  kind: 'trail-not-forwarded' | 'trail-not-witnessed' | 'trail-not-archived';
  /** Where the trail goes, as people name it. */
  place: string;
}

/** How it stands with it. */
export interface DutyState extends About {
  /** Whether everything was where it should be when it was last looked, since the controller has started. */
  isFlowing: boolean;
  /** While it does not get on: since when, ms since the epoch, and why. */
  standstill?: { since: number; reason: string; isDisputed: boolean };
}

/** Whoever has seen the trail before says that it is another one now. */
export class Dispute extends Error {}

/**
 * Work with the trail that goes on for as long as the controller does. What fails is told, and tried again and again, from its beginning.
 * What is outside, and may not answer, it calls by {@link call}: one call at a time, so that it holds up nothing.
 */
export class Duty {
  readonly #about: About;
  readonly #logger: Logger;
  readonly #work: () => Promise<void>;
  readonly #release: () => Promise<void>;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  /** The call that is under way, or was last; never rejects. */
  #calling: Promise<unknown> = Promise.resolve();
  #isFlowing = false;
  #standstill: DutyState['standstill'];
  #tries = 0;

  /** `work` ends by being stopped only; `release` lets go of what is open, after a failure and at the end. */
  constructor(
    about: About,
    logger: Logger,
    work: () => Promise<void>,
    release: () => Promise<void> = async () => undefined,
  ) {
    this.#about = about;
    this.#logger = logger;
    this.#work = work;
    this.#release = release;
  }

  get state(): DutyState {
    return { ...this.#about, isFlowing: this.#isFlowing, standstill: this.#standstill };
  }

  /** Aborted when the work is to end. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Settles soon, also where nobody answers. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the controller ends'));
    await this.#running;
    await Promise.race([this.#release().catch(() => undefined), sleep(FIRST_RETRY_MS)]);
  }

  /** The work says so when everything is where it should be. */
  succeeded(): void {
    this.#isFlowing = true;
    this.#standstill = undefined;
    this.#tries = 0;
  }

  /** Calls what is outside; throws when that takes too long, or this is closed. */
  async call<T>(call: (signal: AbortSignal) => Promise<T>, patienceMs = PATIENCE_MS): Promise<T> {
    const late = new AbortController();
    const timer = clock.after(patienceMs, () => late.abort(new Error('it does not answer')), false);
    const signal = AbortSignal.any([this.signal, late.signal]);
    const work = call(signal);
    this.#calling = work.catch(() => undefined);
    try {
      return await unlessAborted(work, signal);
    } finally {
      timer.stop();
    }
  }

  async #run(): Promise<void> {
    const { signal } = this;
    while (!signal.aborted) {
      try {
        await this.#work();
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        // What hangs is not called a second time: each call would hang with it.
        await unlessAborted(this.#calling, signal).catch(() => undefined);
        await this.call(() => this.#release()).catch(() => undefined);
        const wait = Math.min(FIRST_RETRY_MS * 2 ** this.#tries++, LONGEST_RETRY_MS);
        await sleep(error instanceof Dispute ? DISPUTE_RETRY_MS : wait, signal).catch(() => undefined);
      }
    }
  }

  #failed(error: unknown): void {
    const last = this.#standstill;
    const isDisputed = error instanceof Dispute;
    this.#isFlowing = false;
    // That it cannot be reached any more does not end a dispute.
    if (last?.isDisputed && !isDisputed) return;
    const reason = error instanceof Error ? error.message : String(error);
    if (last?.reason !== reason)
      this.#logger.warn({ ...this.#about, reason }, 'the trail is not where it should be; tried again');
    const isSame = last?.isDisputed === isDisputed;
    this.#standstill = { since: isSame ? last.since : clock.now(), reason, isDisputed };
  }
}
