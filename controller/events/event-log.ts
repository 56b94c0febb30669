import { EventEmitter } from 'node:events';
import { clock } from '../../shared/util/clock.ts';
import type { Change, NumberedChange } from '../store/repositories/events.ts';
import type { Store, Transaction } from '../store/store.ts';

/** So many changes are kept for those who come back. */
const KEPT = 100_000;
/** Forgetting more at once would hold up the store. */
const FORGOTTEN_AT_ONCE = 5000;
const PAGE = 200;
/** How often it is looked for the changes that another controller has written. */
const LOOK_MS = 1000;

/**
 * The changes of the fleet, numbered upwards in the order in which they became true. Each is written in the transaction that
 * makes it true: none is told that did not happen. That a pool or a host is gone says that what was in it is.
 */
export class EventLog extends EventEmitter<{ changed: [readonly Change[]] }> {
  readonly #store: Store;
  /** Rises with each write of this process. */
  #writes = 0;

  constructor(store: Store) {
    super();
    this.setMaxListeners(0);
    this.#store = store;
  }

  /** Runs `work` in a transaction that also keeps the changes that it gives, and tells of them when it is durable. */
  async write(work: (transaction: Transaction) => Promise<Change[]>): Promise<void> {
    const changes = await this.#store.transaction(async (transaction) => {
      const made = await work(transaction);
      if (made.length > 0) await transaction.events.append(made, clock.now());
      return made;
    });
    if (changes.length === 0) return;
    this.#writes++;
    this.emit('changed', changes);
  }

  /** The number of the newest change; 0 when there was none. */
  async last(): Promise<number> {
    return (await this.#store.events.range())?.last ?? 0;
  }

  /** Whether everything after a number is still kept. */
  async keeps(since: number): Promise<boolean> {
    const range = await this.#store.events.range();
    return range === undefined ? since === 0 : since >= range.first - 1 && since <= range.last;
  }

  /**
   * Every change after a number, a page at a time, until `signal` ends. `lost`, with the number to go on from, in place of a page
   * when what came next is not kept any more: at the beginning, or as the reader has fallen behind.
   */
  async *follow(since: number, signal: AbortSignal): AsyncGenerator<NumberedChange[] | { lost: number }> {
    for (let after = since; !signal.aborted; ) {
      const seen = this.#writes;
      const page = await this.#store.events.after(after, PAGE);
      const [first] = page;
      // Numbers may have gaps: only where something was forgotten is something lost.
      if ((first === undefined || first.seq > after + 1) && !(await this.keeps(after))) {
        after = await this.last();
        yield { lost: after };
        continue;
      }
      const last = page.at(-1);
      if (last) {
        after = last.seq;
        yield page;
      } else if (seen === this.#writes) await this.#nextChange(signal);
    }
  }

  /** Settles at the next change that this process writes, after a moment, or when `signal` ends. */
  #nextChange(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.stop();
        this.off('changed', end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = clock.after(LOOK_MS, end, false);
      this.on('changed', end);
      signal.addEventListener('abort', end, { once: true });
    });
  }

  /** Forgets what is too old, a part at a time. */
  async forgetOld(): Promise<void> {
    const range = await this.#store.events.range();
    if (!range) return;
    const before = range.last - KEPT;
    for (let first = range.first; first < before; first += FORGOTTEN_AT_ONCE)
      await this.#store.transaction(({ events }) => events.forget(before, FORGOTTEN_AT_ONCE));
  }
}
