import { clock } from './clock.ts';

/** Longest that a loop may keep everything else of its process waiting. */
const TURN_MS = 5;

/** Lets everything else of the process have a turn now and then, in a loop that may be long and waits for nothing. */
export class Turns {
  #since = clock.monotonicMs();

  /** Whether the loop has gone on for long enough; then it should await {@link next}. */
  get due(): boolean {
    return clock.monotonicMs() - this.#since > TURN_MS;
  }

  /** Settles at once, or when the others had their turn. */
  async next(): Promise<void> {
    if (!this.due) return;
    await new Promise(setImmediate);
    this.#since = clock.monotonicMs();
  }
}
