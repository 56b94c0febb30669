/** A file of a pool's state, opened when it is first asked for; what cannot be opened is tried again. */
export class Kept<T extends AsyncDisposable> {
  readonly #path: () => Promise<string>;
  readonly #open: (path: string) => Promise<T>;
  #opened: Promise<T> | undefined;

  constructor(path: () => Promise<string>, open: (path: string) => Promise<T>) {
    this.#path = path;
    this.#open = open;
  }

  get(): Promise<T> {
    if (this.#opened) return this.#opened;
    const opened = this.#path().then(this.#open);
    this.#opened = opened;
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined);
    await opened?.[Symbol.asyncDispose]();
  }
}
