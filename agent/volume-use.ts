import { StowageError } from '../shared/util/errors.ts';

interface Use {
  readers: Set<{ purpose: string }>;
  writer?: string;
}

/** Who works on which volume of this host right now: many readers, or one writer, each with what it is doing. */
export class VolumeUse {
  readonly #uses = new Map<string, Use>();

  #use(volume: string): Use {
    let use = this.#uses.get(volume);
    if (!use) {
      use = { readers: new Set() };
      this.#uses.set(volume, use);
    }
    return use;
  }

  /** Throws `volume-in-use` while somebody changes the volume. */
  refuseWritten(volume: string): void {
    const writer = this.#uses.get(volume)?.writer;
    if (writer) throw new StowageError('volume-in-use', `volume '${volume}' is in use: ${writer}`);
  }

  /** Throws `volume-in-use` with what the holder is doing. */
  read(volume: string, purpose: string): Disposable {
    const use = this.#use(volume);
    if (use.writer) throw new StowageError('volume-in-use', `volume '${volume}' is in use: ${use.writer}`);
    const reader = { purpose };
    use.readers.add(reader);
    return this.#release(volume, () => use.readers.delete(reader));
  }

  /** Throws `volume-in-use` with what the holder is doing. */
  write(volume: string, purpose: string): Disposable {
    const use = this.#use(volume);
    const [reader] = use.readers;
    const holder = use.writer ?? reader?.purpose;
    if (holder) throw new StowageError('volume-in-use', `volume '${volume}' is in use: ${holder}`);
    use.writer = purpose;
    return this.#release(volume, () => {
      use.writer = undefined;
    });
  }

  #release(volume: string, undo: () => void): Disposable {
    return {
      [Symbol.dispose]: () => {
        undo();
        const use = this.#uses.get(volume);
        if (use && !use.writer && use.readers.size === 0) this.#uses.delete(volume);
      },
    };
  }
}
