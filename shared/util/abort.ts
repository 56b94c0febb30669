/** A signal that is aborted with its parent, and at the end of the block that holds this with `using`. */
export class BlockSignal implements Disposable {
  readonly #end = new AbortController();
  readonly signal: AbortSignal;

  constructor(parent: AbortSignal) {
    this.signal = AbortSignal.any([parent, this.#end.signal]);
  }

  [Symbol.dispose](): void {
    this.#end.abort();
  }
}
