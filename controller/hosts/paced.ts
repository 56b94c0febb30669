import { clock } from '../../shared/util/clock.ts';

/** So long at a time, at most, before everything else gets its turn. */
const ROUND_MS = 5;

/**
 * Turns for work that thousands ask for at the same moment, such as proving who they are after a restart of the controller.
 * In each round of the event loop some are begun, for a few milliseconds, so that everything else goes on in between. Of
 * several stages the last goes first: who has begun comes to an end before others begin.
 */
export class Paced {
  readonly #waiting: (() => void)[][];
  #isRunning = false;

  constructor(stages: number) {
    this.#waiting = Array.from({ length: stages }, () => []);
  }

  /** Settles when it is the turn of this caller, within its stage in the order of the calls. */
  turn(stage: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting[stage]!.push(resolve);
      if (this.#isRunning) return;
      this.#isRunning = true;
      setImmediate(() => void this.#run());
    });
  }

  async #run(): Promise<void> {
    for (;;) {
      const began = clock.monotonicMs();
      do {
        const begin = this.#waiting.findLast((stage) => stage.length > 0)?.shift();
        if (begin === undefined) {
          this.#isRunning = false;
          return;
        }
        begin();
        // What was begun runs before this goes on.
        await Promise.resolve();
      } while (clock.monotonicMs() - began < ROUND_MS);
      await new Promise(setImmediate);
    }
  }
}
