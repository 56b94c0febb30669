import type { Kysely } from 'kysely';
import { clock } from '../../shared/util/clock.ts';
import type { Database } from './schema.ts';

const MOST = 100;

interface Write {
  work(db: Kysely<Database>): Promise<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/**
 * Writes one after the other. What waits while a transaction is made durable shares the next one, as the disk takes as long for
 * many as for one. A write that fails undoes no other: those of its group are then done one by one.
 */
export class GroupedWrites {
  readonly #db: Kysely<Database>;
  readonly #groupMs: number;
  readonly #waiting: Write[] = [];
  #isWriting = false;

  /** A transaction takes no more work in after `groupMs`. */
  constructor(db: Kysely<Database>, groupMs: number) {
    this.#db = db;
    this.#groupMs = groupMs;
  }

  /** Settles when the write is durable, or throws what it threw. */
  add<T>(work: (db: Kysely<Database>) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ work, resolve: resolve as (value: unknown) => void, reject });
      if (!this.#isWriting) void this.#writeAll();
    });
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      await this.#writeGroup();
      await new Promise(setImmediate);
    }
    this.#isWriting = false;
  }

  async #writeGroup(): Promise<void> {
    const group: Write[] = [];
    const results: unknown[] = [];
    let isWorkDone = false;
    try {
      await this.#db.transaction().execute(async (db) => {
        const deadline = clock.monotonicMs() + this.#groupMs;
        do {
          const write = this.#waiting.shift()!;
          group.push(write);
          results.push(await write.work(db));
        } while (this.#waiting.length > 0 && group.length < MOST && clock.monotonicMs() < deadline);
        isWorkDone = true;
      });
    } catch (error) {
      const [only, ...others] = group;
      // Not even begun, as the store is away: the one that waits longest is told.
      if (only === undefined) this.#waiting.shift()?.reject(error);
      // Whether a commit that failed took place nobody knows: done again it might be there twice.
      else if (others.length === 0 || isWorkDone) for (const write of group) write.reject(error);
      else for (const write of group) await this.#writeAlone(write);
      return;
    }
    for (const [index, write] of group.entries()) write.resolve(results[index]);
  }

  async #writeAlone(write: Write): Promise<void> {
    await this.#db.transaction().execute(write.work).then(write.resolve, write.reject);
  }
}
