/**
 * An undo stack for a multi-step operation: push the undo of each step after it succeeded, call `commit()` at
 * the end. When the scope is left without commit (`await using`), the undos run, last first.
 */
export class Revert implements AsyncDisposable {
  #undos: (() => Promise<unknown> | unknown)[] = [];

  push(undo: () => Promise<unknown> | unknown): void {
    this.#undos.push(undo);
  }

  commit(): void {
    this.#undos = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const undo of this.#undos.reverse()) {
      // An undo that fails must not hide the error that made it necessary, nor stop the undos below it.
      await Promise.resolve()
        .then(undo)
        .catch(() => undefined);
    }
    this.#undos = [];
  }
}
