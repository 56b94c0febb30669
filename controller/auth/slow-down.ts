import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** So long after the end of its longest wait a key without a try is forgotten. */
const FORGET_MS = 15 * 60_000;
/** Names and addresses that are remembered. */
const MOST_KEYS = 10_000;

interface Tries {
  count: number;
  last: number;
}

/** Makes those wait longer and longer who try again and again. A try counts when it begins, and no more once it has succeeded. */
export class SlowDown {
  readonly #tries = new Map<string, Tries>();
  readonly #free: number;
  readonly #longestMs: number;

  /** So many tries cost nothing; each one more makes the next wait twice as long, to the longest. */
  constructor(free: number, longestMs: number) {
    this.#free = free;
    this.#longestMs = longestMs;
  }

  /** Throws `rate-limited`, with the seconds to wait, for one that comes too soon: that does not count. */
  begin(key: string): void {
    const now = clock.monotonicMs();
    let known = this.#tries.get(key);
    if (known && now - known.last > 2 * this.#longestMs + FORGET_MS) known = undefined;
    const { count, last } = known ?? { count: 0, last: 0 };
    const waitMs = count < this.#free ? 0 : Math.min(this.#longestMs, 1000 * 2 ** (count - this.#free));
    const leftMs = last + waitMs - now;
    if (count >= this.#free && leftMs > 0)
      throw new StowageError(
        'rate-limited',
        `too many tries; try again in ${Math.ceil(leftMs / 1000)} seconds`,
      );
    this.#tries.delete(key);
    this.#tries.set(key, { count: count + 1, last: now });
    const [oldest] = this.#tries.keys();
    if (this.#tries.size > MOST_KEYS && oldest !== undefined) this.#tries.delete(oldest);
  }

  /** All tries of it are forgotten. */
  succeeded(key: string): void {
    this.#tries.delete(key);
  }

  /** The last try counts no more: the ones before it, which somebody else may have made, do. */
  takeBack(key: string): void {
    const known = this.#tries.get(key);
    if (known) known.count--;
  }
}
