import type { Image } from '../../images/image.ts';

/** How what is read comes to be there for as long as somebody reads it. */
export interface Readiness {
  /** Repeatable. */
  ready(): Promise<void>;
  open(): Promise<Image>;
  /** Called when the last reader has closed it, and after a failed {@link open} that nobody else needs. */
  letGo(): Promise<void>;
}

/** Readers of what must be made ready before: the first one finds it so, the last one lets go of it. */
export class SharedReading {
  readonly #readers = new Map<string, number>();
  /** One step after the other: what one lets go of another may be making ready. */
  #last: Promise<unknown> = Promise.resolve();

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const step = this.#last.then(work);
    this.#last = step.catch(() => undefined);
    return step;
  }

  /** Opens what has a name. That it could not be let go of harms nobody, and is not told. */
  async open(name: string, { ready, open, letGo }: Readiness): Promise<Image> {
    const end = (): Promise<void> =>
      this.#alone(async () => {
        const left = (this.#readers.get(name) ?? 1) - 1;
        this.#readers.set(name, left);
        if (left > 0) return;
        this.#readers.delete(name);
        await letGo().catch(() => undefined);
      });
    await this.#alone(async () => {
      this.#readers.set(name, (this.#readers.get(name) ?? 0) + 1);
    });
    try {
      const image = await this.#alone(async () => {
        await ready();
        return open();
      });
      let closing: Promise<void> | undefined;
      const close = image.close.bind(image);
      const closeOnce = (): Promise<void> => {
        closing ??= close().then(end);
        return closing;
      };
      image.close = closeOnce;
      image[Symbol.asyncDispose] = closeOnce;
      return image;
    } catch (error) {
      await end();
      throw error;
    }
  }
}
