import { clock } from '../../shared/util/clock.ts';

const WINDOW_MS = 60_000;
/** Failures of one source in a minute that are looked at one by one. */
export const MOST_FAILURES = 20;
/** Sources that are remembered: whoever has more addresses than this is not kept count of. */
const MOST_SOURCES = 10_000;

/** Counts failed authentications by where they come from, so that nobody fills the trail with them. */
export class FailedAttempts {
  readonly #sources = new Map<string, { since: number; count: number }>();

  /** Notes a failure. Gives how many there were in this minute, and whether it is one too many. */
  note(source: string): { count: number; tooMany: boolean } {
    const now = clock.monotonicMs();
    let known = this.#sources.get(source);
    if (!known || now - known.since > WINDOW_MS) {
      known = { since: now, count: 0 };
      this.#sources.delete(source);
      this.#sources.set(source, known);
      const [oldest] = this.#sources.keys();
      if (this.#sources.size > MOST_SOURCES && oldest !== undefined) this.#sources.delete(oldest);
    }
    known.count++;
    return { count: known.count, tooMany: known.count > MOST_FAILURES };
  }
}
