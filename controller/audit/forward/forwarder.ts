import type { Logger } from 'pino';
import { unlessAborted } from '../../../shared/util/abort.ts';
import { clock, sleep } from '../../../shared/util/clock.ts';
import type { Store } from '../../store/store.ts';
import type { AuditTrail } from '../trail.ts';
import type { Destination } from './destination.ts';

/** New records are looked for so often. */
const LOOK_MS = 1000;
const PAGE = 500;
/** After so many pages it is asked whether all is there. */
const MOST_PAGES = 20;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;
/** What takes longer is told as a standstill. */
const PATIENCE_MS = 60_000;

/** How it stands with a destination. */
export interface ForwardingState {
  destination: string;
  /** Whether it has all that there was when it was last looked, since the controller has started. */
  isFlowing: boolean;
  /** While it does not take the trail: since when, ms since the epoch, and why. */
  standstill?: { since: number; reason: string };
}

/**
 * Sends the whole trail to a destination, in order, from its first record on, and goes on where it was whenever the controller was killed.
 * Each record arrives; what had not been confirmed when a connection broke, or the controller was killed, arrives again. A destination
 * that does not answer is tried again and again, one call at a time, and holds up nothing.
 */
export class Forwarder {
  readonly #parts: { store: Store; trail: AuditTrail; logger: Logger };
  readonly #destination: Destination;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  /** The call to the destination that is under way, or was last; never rejects. */
  #calling: Promise<unknown> = Promise.resolve();
  #isFlowing = false;
  #standstill: ForwardingState['standstill'];

  constructor(parts: { store: Store; trail: AuditTrail; logger: Logger }, destination: Destination) {
    this.#parts = parts;
    this.#destination = destination;
  }

  get state(): ForwardingState {
    const { name: destination } = this.#destination;
    return { destination, isFlowing: this.#isFlowing, standstill: this.#standstill };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Settles soon, also where the destination does not answer. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the controller ends'));
    await this.#running;
    await Promise.race([this.#destination.close().catch(() => undefined), sleep(FIRST_RETRY_MS)]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        await this.#follow(() => {
          tries = 0;
        });
      } catch (error) {
        if (signal.aborted) return;
        this.#failed(error);
        // What hangs is not called a second time: each call would hang with it.
        await unlessAborted(this.#calling, signal).catch(() => undefined);
        await this.#call(() => this.#destination.close()).catch(() => undefined);
        await sleep(Math.min(FIRST_RETRY_MS * 2 ** tries, LONGEST_RETRY_MS), signal).catch(() => undefined);
      }
    }
  }

  #failed(error: unknown): void {
    const { name } = this.#destination;
    const reason = error instanceof Error ? error.message : String(error);
    if (this.#standstill?.reason !== reason)
      this.#parts.logger.warn({ destination: name, reason }, 'the trail is not forwarded; tried again');
    this.#isFlowing = false;
    this.#standstill = { since: this.#standstill?.since ?? clock.now(), reason };
  }

  /** Calls the destination; throws when that takes too long, or this is closed. */
  async #call<T>(call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const late = new AbortController();
    const timer = clock.after(PATIENCE_MS, () => late.abort(new Error('it does not answer')), false);
    const signal = AbortSignal.any([this.#stop.signal, late.signal]);
    const work = call(signal);
    this.#calling = work.catch(() => undefined);
    try {
      return await unlessAborted(work, signal);
    } finally {
      timer.stop();
    }
  }

  /** Up to where the destination has the trail. Throws where what it has is not of this trail. */
  async #begin(noted: number): Promise<number> {
    const last = await this.#call((signal) => this.#destination.last(signal));
    if (!last) return noted;
    const [ours] = await this.#parts.trail.list(1, { after: last.seq - 1 });
    if (ours?.seq !== last.seq || ours.hash !== last.hash)
      throw new Error(`record ${last.seq} there is none of this trail; give it another place`);
    return last.seq;
  }

  /** Sends what there is and what comes, until something fails. */
  async #follow(succeeded: () => void): Promise<never> {
    const { store, trail } = this.#parts;
    const destination = this.#destination;
    let noted = await store.forwarding.position(destination.name);
    let certain = await this.#begin(noted);
    let sent = certain;
    let pages = 0;
    let gatheringSince = 0;
    for (;;) {
      const records = await trail.list(PAGE, { after: sent });
      const isAll = records.length < PAGE;
      if (records.length > 0) {
        if (sent === certain) gatheringSince = clock.monotonicMs();
        await this.#call((signal) => destination.take(records, signal));
        sent = records.at(-1)!.seq;
        pages++;
      }
      const isDue = isAll && clock.monotonicMs() - gatheringSince >= destination.gatherMs;
      if (sent !== certain && (isDue || pages >= MOST_PAGES)) {
        await this.#call((signal) => destination.confirm(signal));
        certain = sent;
        pages = 0;
      }
      if (certain !== noted && (await this.#note(certain))) noted = certain;
      if (sent === certain) {
        this.#isFlowing = true;
        this.#standstill = undefined;
        succeeded();
      }
      if (isAll) await sleep(LOOK_MS, this.#stop.signal);
    }
  }

  /** False where it cannot be noted, such as on a full disk: that is no matter of the destination, and is tried again. */
  async #note(seq: number): Promise<boolean> {
    const { store, logger } = this.#parts;
    const { name } = this.#destination;
    try {
      await store.transaction(({ forwarding }) => forwarding.note(name, seq));
      return true;
    } catch (error) {
      logger.warn({ error, destination: name }, 'it cannot be noted how far the trail was forwarded');
      return false;
    }
  }
}
