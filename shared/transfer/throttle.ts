import { clock, sleep } from '../util/clock.ts';

/** A token bucket: `take(bytes)` settles when that many bytes may go. One second's worth may go at once. */
export class Throttle {
  readonly #bytesPerSecond: number;
  #credit: number;
  #last = clock.monotonicMs();

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#credit = bytesPerSecond;
  }

  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = clock.monotonicMs();
    this.#credit = Math.min(
      this.#credit + ((now - this.#last) / 1000) * this.#bytesPerSecond,
      this.#bytesPerSecond,
    );
    this.#last = now;
    // Going into debt keeps the average right whatever the size of a piece, and the order of those who wait.
    this.#credit -= bytes;
    if (this.#credit < 0) await sleep((-this.#credit / this.#bytesPerSecond) * 1000, signal);
  }
}
