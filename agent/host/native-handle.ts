import { StowageError } from '../../shared/util/errors.ts';

/**
 * Something that a C library has open, by its address. C must not use it any more once it is closed: calls under way are waited for,
 * and later ones throw `pool-inactive`.
 */
export class NativeHandle {
  readonly #address: bigint;
  readonly #free: (address: bigint) => Promise<unknown>;
  readonly #running = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  /** `free` is called once. */
  constructor(address: bigint, free: (address: bigint) => Promise<unknown>) {
    this.#address = address;
    this.#free = free;
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** Runs what uses it. */
  use<T>(work: (address: bigint) => Promise<T>): Promise<T> {
    if (this.#closing) throw new StowageError('pool-inactive', 'it was closed before');
    const running = work(this.#address);
    this.#running.add(running);
    const over = (): void => void this.#running.delete(running);
    running.then(over, over);
    return running;
  }

  /** Settles when it is freed. Repeatable. */
  close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#running).then(async () => {
      await this.#free(this.#address);
    });
    return this.#closing;
  }
}
