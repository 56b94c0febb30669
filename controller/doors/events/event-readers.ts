import { StowageError } from '../../../shared/util/errors.ts';
import type { Principal } from '../../auth/principal.ts';

/** More readers than anybody has; each costs something with each change. */
const MOST_READERS = 1000;
/** By one token, or in one session: that many tabs nobody has. */
const MOST_READERS_OF_ONE = 200;

/** Who reads events now, by whichever door. */
export class EventReaders {
  readonly #counts = new Map<string, number>();
  #all = 0;

  /** Lets a reader in until the function that it gives is called. Throws `rate-limited` for one too many. */
  enter({ id }: Pick<Principal, 'id'>): () => void {
    const count = this.#counts.get(id) ?? 0;
    if (this.#all >= MOST_READERS || count >= MOST_READERS_OF_ONE)
      throw new StowageError('rate-limited', 'too many read events now; try again when some have ended');
    this.#all++;
    this.#counts.set(id, count + 1);
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      this.#all--;
      const left = this.#counts.get(id)! - 1;
      if (left > 0) this.#counts.set(id, left);
      else this.#counts.delete(id);
    };
  }
}
