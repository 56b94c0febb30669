/**
 * Turns for work that thousands ask for at the same moment, such as proving who one is after a restart of the controller:
 * one begins in each round of the event loop, so that everything else goes on in between.
 */
export class Paced {
  readonly #waiting: (() => void)[] = [];
  #isRunning = false;

  /** Settles when it is the turn of this caller, in the order of the calls. */
  turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#isRunning) return;
      this.#isRunning = true;
      setImmediate(() => this.#next());
    });
  }

  #next(): void {
    this.#waiting.shift()?.();
    this.#isRunning = this.#waiting.length > 0;
    if (this.#isRunning) setImmediate(() => this.#next());
  }
}
