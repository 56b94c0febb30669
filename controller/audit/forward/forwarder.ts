import type { Logger } from 'pino';
import { clock, sleep } from '../../../shared/util/clock.ts';
import type { Store } from '../../store/store.ts';
import type { AuditTrail } from '../trail.ts';
import type { Destination } from './destination.ts';

/** New records are looked for so often. */
const LOOK_MS = 1000;
const PAGE = 500;
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 60_000;

/** How it stands with a destination. */
export interface ForwardingState {
  destination: string;
  /** Whether it has taken what there was, since the controller has started. */
  isFlowing: boolean;
  /** While it does not take the trail: since when, ms since the epoch, and why. */
  standstill?: { since: number; reason: string };
}

/**
 * Sends the whole trail to a destination, in order, from its first record on, and goes on where it was whenever the controller was killed.
 * Each record arrives; what was under way when a connection broke, or the controller was killed, arrives again. A destination that does
 * not answer is tried again and again, and holds up nothing.
 */
export class Forwarder {
  readonly #parts: { store: Store; trail: AuditTrail; logger: Logger };
  readonly #destination: Destination;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
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

  /** Settles when nothing is under way any more. */
  async close(): Promise<void> {
    this.#stop.abort(new Error('the controller ends'));
    await this.#running;
    await this.#destination.close().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        await this.#follow(() => {
          tries = 0;
        });
      } catch (error) {
        await this.#destination.close().catch(() => undefined);
        if (signal.aborted) return;
        this.#failed(error);
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

  /** The number of the last record that a destination has; 0 where it has none, or cannot tell. Throws for one that is not of this trail. */
  async #lastOf(destination: Destination): Promise<number> {
    const last = await destination.last(this.#stop.signal);
    if (!last) return 0;
    const [ours] = await this.#parts.trail.list(1, { after: last.seq - 1 });
    if (ours?.seq !== last.seq || ours.hash !== last.hash)
      throw new Error(`record ${last.seq} there is none of this trail; give it another place`);
    return last.seq;
  }

  /** Sends what there is and what comes, until something fails. */
  async #follow(succeeded: () => void): Promise<never> {
    const { store, trail } = this.#parts;
    const { signal } = this.#stop;
    const destination = this.#destination;
    let noted = await store.forwarding.position(destination.name);
    // It may have more than was noted, after a kill.
    let sent = Math.max(noted, await this.#lastOf(destination));
    /** What is in doubt yet: up to which record, and since when. */
    const doubtful: { seq: number; at: number }[] = [];
    for (;;) {
      const records = await trail.list(PAGE, { after: sent });
      if (records.length > 0) {
        await destination.take(records, signal);
        sent = records.at(-1)!.seq;
        doubtful.push({ seq: sent, at: clock.monotonicMs() });
      }
      destination.check();
      let certain = noted;
      while (doubtful[0] && doubtful[0].at + destination.doubtMs <= clock.monotonicMs())
        certain = doubtful.shift()!.seq;
      if (certain > noted) {
        await store.transaction(({ forwarding }) => forwarding.note(destination.name, certain));
        noted = certain;
      }
      this.#isFlowing = true;
      this.#standstill = undefined;
      succeeded();
      if (records.length < PAGE) await sleep(LOOK_MS, signal);
    }
  }
}
