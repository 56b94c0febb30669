import { replaceFile } from './files.ts';

/**
 * A small file that many callers save at once: one write at a time, and callers that come while one runs share the next,
 * which takes the state as it is then. `save` settles when the state at the time of the call, or a newer one, is durable.
 */
export class StateFile {
  readonly #path: string;
  readonly #text: () => string;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(path: string, text: () => string) {
    this.#path = path;
    this.#text = text;
  }

  save(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#running = this.#next!;
        this.#next = undefined;
        return replaceFile(this.#path, this.#text());
      });
    return this.#next;
  }
}
