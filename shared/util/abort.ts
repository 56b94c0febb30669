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

/** Settles as `work` does, or throws the reason of `signal` as soon as that is aborted; the work itself goes on. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
