import type { Image } from '../../images/image.ts';

/** How what is read comes to be there. */
export interface Preparation {
  /** Gives what lets go of it. Called for the first of those who read it at once. */
  prepare(): Promise<() => Promise<void>>;
  open(): Promise<Image>;
}

interface Prepared {
  readers: number;
  release(): Promise<void>;
}

/** Readers of what must be made ready before: it is ready from the first one's opening to the last one's closing. */
export class SharedReading {
  readonly #prepared = new Map<string, Prepared>();
  /** Of a name one step after the other: what one lets go of another may be making ready. */
  readonly #last = new Map<string, Promise<void>>();

  #alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    const step = (this.#last.get(name) ?? Promise.resolve()).then(work);
    const settled = step.then(
      () => undefined,
      () => undefined,
    );
    this.#last.set(name, settled);
    void settled.then(() => {
      if (this.#last.get(name) === settled) this.#last.delete(name);
    });
    return step;
  }

  /** Opens what has a name. That it could not be let go of harms nobody, and is not told. */
  async open(name: string, { prepare, open }: Preparation): Promise<Image> {
    const leave = async (prepared: Prepared): Promise<void> => {
      if (--prepared.readers > 0) return;
      this.#prepared.delete(name);
      await prepared.release().catch(() => undefined);
    };
    return this.#alone(name, async () => {
      const prepared = this.#prepared.get(name) ?? { readers: 0, release: await prepare() };
      this.#prepared.set(name, prepared);
      prepared.readers++;
      const image = await open().catch(async (error) => {
        await leave(prepared);
        throw error;
      });
      let closing: Promise<void> | undefined;
      const close = image.close.bind(image);
      const closeOnce = (): Promise<void> => {
        closing ??= close().finally(() => this.#alone(name, () => leave(prepared)));
        return closing;
      };
      image.close = closeOnce;
      image[Symbol.asyncDispose] = closeOnce;
      return image;
    });
  }
}
