import type { TransferSpec } from '../../shared/protocol/agent.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import type { OpenedStage, PoolOperations } from '../pools/operations.ts';
import type { Pools } from '../pools/pools.ts';
import { Sink } from './sink.ts';

/** The transfers to this host, each open at most once: two openings of one would write over each other. */
export class Sinks {
  readonly #pools: Pools;
  readonly #open = new Map<string, Promise<Sink | undefined>>();
  /** Of those that are open: what their volumes will have. */
  readonly #reservations = new Map<string, Disposable>();

  constructor(pools: Pools) {
    this.#pools = pools;
    // What was open of storage that is away is of no use any more, also when that comes back.
    pools.on('event', (event) => {
      if (event.type === 'pool' && event.pool.state !== 'running') void this.close(event.pool.name);
    });
  }

  /** The transfer that was begun before, or a new one. */
  async begin(spec: TransferSpec): Promise<Sink> {
    const pool = await this.#pools.operations(spec.pool);
    const sink = await this.#once(spec.id, async () => {
      const reserved = await this.#reserve(spec, pool);
      try {
        const opened = await Sink.open(await pool.stage(spec));
        this.#reservations.set(spec.id, reserved);
        return opened;
      } catch (error) {
        reserved[Symbol.dispose]();
        throw error;
      }
    });
    return sink!;
  }

  /** Throws what {@link begin} would for a transfer that is new, as far as that can be told without making its stage. */
  async check(spec: TransferSpec): Promise<void> {
    const pool = await this.#pools.operations(spec.pool);
    this.#pools.reserve(spec.pool, this.#newBytes(spec))[Symbol.dispose]();
    await pool.refuseStage(spec);
  }

  /** Counts what the volume will have while the transfer is open. Throws `pool-overcommitted`; what was begun before goes on. */
  async #reserve(spec: TransferSpec, pool: PoolOperations): Promise<Disposable> {
    try {
      return this.#pools.reserve(spec.pool, this.#newBytes(spec));
    } catch (error) {
      const [begun] = await pool.stages(spec.id);
      await begun?.[Symbol.asyncDispose]();
      if (!begun) throw error;
      return this.#pools.reserve(spec.pool, this.#newBytes(spec), true);
    }
  }

  /**
   * Counts, until it is disposed, what an image that has arrived may grow to beyond its bytes. Throws `pool-overcommitted`: it is not
   * to become a volume then.
   */
  async reserveGrowth(sink: Sink): Promise<Disposable> {
    const { spec } = sink;
    const capacityBytes = Math.max(spec.capacityBytes ?? 0, (await sink.capacityBytes()) ?? 0);
    return this.#pools.reserve(spec.pool, this.#newBytes({ ...spec, capacityBytes }) - this.#newBytes(spec));
  }

  /** What the volumes of its pool will have more together. */
  #newBytes({ pool, volume, capacityBytes = 0, parts, replace }: TransferSpec): number {
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    const before = replace ? this.#pools.volumes(pool).get(volume)?.capacityBytes : 0;
    return Math.max(0, Math.max(capacityBytes, sizeBytes) - (before ?? 0));
  }

  #forget(id: string): void {
    this.#open.delete(id);
    this.#reservations.get(id)?.[Symbol.dispose]();
    this.#reservations.delete(id);
  }

  /** A transfer, in whichever pool it is. Throws `transfer-not-found`. */
  async find(id: string): Promise<Sink> {
    const sink = await this.#once(id, async () => {
      const stage = await this.#find(id);
      if (!stage) return undefined;
      this.#reservations.set(id, this.#pools.reserve(stage.spec.pool, this.#newBytes(stage.spec), true));
      return Sink.open(stage);
    });
    if (!sink) throw new StowageError('transfer-not-found', `this host has no transfer ${id}`);
    return sink;
  }

  async #find(id: string): Promise<OpenedStage | undefined> {
    return this.#pools.first(async (pool) => (await pool.stages(id))[0]);
  }

  /** All transfers that were begun and neither committed nor aborted, opened or not. */
  async list(): Promise<{ id: string; pool: string; volume: string; touchedAt: number }[]> {
    const all: { id: string; pool: string; volume: string; touchedAt: number }[] = [];
    await this.#pools.each(async (operations) => {
      for (const stage of await operations.stages()) {
        const { id, pool, volume } = stage.spec;
        const touchedAt = (await this.#open.get(id)?.catch(() => undefined))?.touchedAt ?? stage.touchedAt;
        all.push({ id, pool, volume, touchedAt });
        await stage[Symbol.asyncDispose]();
      }
    });
    return all;
  }

  /** Aborts a transfer, also one that cannot be opened. Throws `job-state` while it is being committed. */
  async drop(id: string): Promise<void> {
    const sink = await this.find(id).catch((error) => {
      // One whose record cannot be read is still something to remove; storage that is away keeps its own.
      if (isStowageError(error, 'pool-inaccessible')) throw error;
    });
    try {
      if (sink) await sink.abort();
      else await this.#pools.each((pool) => pool.dropStage(id));
    } finally {
      this.#forget(id);
    }
  }

  /** Forgets one that is over. */
  ended(id: string): void {
    this.#forget(id);
  }

  /** Closes those of a pool, as when it stops: what was received stays. */
  async close(pool: string): Promise<void> {
    for (const [id, opening] of this.#open) {
      const sink = await opening.catch(() => undefined);
      if (sink?.spec.pool !== pool) continue;
      this.#forget(id);
      await sink.close().catch(() => undefined);
    }
  }

  #once(id: string, open: () => Promise<Sink | undefined>): Promise<Sink | undefined> {
    let opening = this.#open.get(id);
    if (!opening) {
      opening = open().then(
        (sink) => {
          if (!sink) this.#open.delete(id);
          return sink;
        },
        (error) => {
          this.#open.delete(id);
          throw error;
        },
      );
      this.#open.set(id, opening);
    }
    return opening;
  }
}
