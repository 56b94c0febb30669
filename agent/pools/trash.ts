import {
  type TrashedVolume,
  trashedVolumeSchema,
  type Wiped,
  type WipedPart,
} from '../../shared/conf/trash.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { RecordLog } from '../host/record-log.ts';
import type { PoolOperations } from './operations.ts';

/** Who puts a volume into the trash, and how long it is kept at least. */
export interface TrashRequest {
  keepUntil: number;
  by?: string;
  /** What it held is to be overwritten before it goes. */
  wipe?: Pick<Wiped, 'limitBytesPerSecond'> & { deleteSnapshots: boolean };
}

/**
 * The trash of one pool: which volumes it has taken aside, what they were, and until when they are kept, in a file. The record comes
 * before the volume goes, and goes after it is back or deleted: a kill leaves at most a record of nothing. A record goes with its
 * volume only: that nothing is there may mean that another storage is.
 */
export class Trash implements AsyncDisposable {
  readonly #records: RecordLog<TrashedVolume>;
  /** What is on its way in or out. */
  readonly #busy = new Set<string>();
  /** Records of nothing, as far as was last seen. */
  #absent: ReadonlySet<string> = new Set();

  private constructor(records: RecordLog<TrashedVolume>) {
    this.#records = records;
  }

  /** Throws as {@link RecordLog.open} does. */
  static async open(path: string): Promise<Trash> {
    return new Trash(await RecordLog.open(path, trashedVolumeSchema));
  }

  /** What is in it as far as was last seen, the oldest first. */
  get volumes(): TrashedVolume[] {
    return [...this.#present()].sort(
      (one, other) => one.trashedAt - other.trashedAt || (one.id < other.id ? -1 : 1),
    );
  }

  /** How many volumes, and what they took when they came. */
  get sizes(): { volumeCount: number; allocationBytes: number } {
    let volumeCount = 0;
    let allocationBytes = 0;
    for (const { volume } of this.#present()) {
      volumeCount++;
      allocationBytes += volume.allocationBytes;
    }
    return { volumeCount, allocationBytes };
  }

  *#present(): Generator<TrashedVolume> {
    for (const [id, trashed] of this.#records.entries()) if (!this.#absent.has(id)) yield trashed;
  }

  /** Takes a volume aside. Throws as {@link PoolOperations.trash}, and with `wipe` {@link PoolOperations.wipeTrashed}, do; the volume is as before then. */
  async add(
    pool: PoolOperations,
    name: string,
    { keepUntil, by, wipe }: TrashRequest,
  ): Promise<TrashedVolume> {
    const volume = await pool.look(name);
    const id = clock.uuid().replaceAll('-', '').slice(-12);
    if (wipe && !wipe.deleteSnapshots && volume.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        `volume '${name}' has snapshots (${volume.snapshotCount}), which would go with it`,
      );
    const wiped = wipe && { doneBytes: 0, limitBytesPerSecond: wipe.limitBytesPerSecond };
    const trashed: TrashedVolume = { id, volume, trashedAt: clock.now(), keepUntil, by, wiped };
    return this.#alone(id, async () => {
      try {
        await this.#records.set(id, trashed);
        await pool.trash(name, id, volume.etag);
        if (wipe) await this.#refuseWipe(pool, trashed);
      } catch (error) {
        // Where it cannot be told whether it went, the record stays.
        const there = await pool.trashed().catch(() => [id]);
        if (!there.includes(id)) await this.#records.delete(id).catch(() => undefined);
        throw error;
      }
      return trashed;
    });
  }

  /** What refuses to be overwritten has its name again. */
  async #refuseWipe(pool: PoolOperations, { id, volume }: TrashedVolume): Promise<void> {
    try {
      await pool.wipeTrashed(id, 0, 0);
    } catch (error) {
      await pool.restore(id, volume.name, volume);
      throw error;
    }
  }

  /** Looks at what is in it. What has no record is not told: somebody else knows what it was. Throws where the storage is away. */
  async list(pool: PoolOperations): Promise<TrashedVolume[]> {
    const before = [...this.#records.entries()].map(([id]) => id);
    if (before.length === 0) return [];
    const there = new Set(await pool.trashed());
    // What came meanwhile was not looked for.
    this.#absent = new Set(before.filter((id) => !there.has(id) && !this.#busy.has(id)));
    return this.volumes;
  }

  /** Gives a volume its name again, or another one. Throws `volume-not-found`, `volume-exists`, `volume-damaged` where some of it is overwritten. */
  async restore(pool: PoolOperations, id: string, name?: string): Promise<Volume> {
    return this.#alone(id, async () => {
      const { volume, wiped } = this.find(id);
      if (wiped?.totalBytes !== undefined)
        throw new StowageError('volume-damaged', `what ${id} held is overwritten, or was begun to be`);
      const restored = await pool.restore(id, name ?? volume.name, volume);
      await this.#forget(id);
      return restored;
    });
  }

  /** From now on it is overwritten before it goes. Throws as {@link PoolOperations.wipeTrashed} does. Repeatable. */
  async requireWipe(
    pool: PoolOperations,
    id: string,
    wanted: Pick<Wiped, 'limitBytesPerSecond'>,
  ): Promise<TrashedVolume> {
    return this.#alone(id, async () => {
      const trashed = this.find(id);
      await pool.wipeTrashed(id, 0, 0);
      const now = { ...trashed, wiped: { doneBytes: 0, ...trashed.wiped, ...wanted } };
      await this.#records.set(id, now);
      return now;
    });
  }

  /**
   * Overwrites the next part of what is in it: from now on it does not come back, and does not go before all is overwritten. A part that a
   * kill has cut is done again. Throws `volume-not-found`.
   */
  async wipe(pool: PoolOperations, id: string, mostBytes: number): Promise<WipedPart> {
    return this.#alone(id, async () => {
      const trashed = this.find(id);
      const before = trashed.wiped ?? { doneBytes: 0 };
      if (before.totalBytes === undefined) {
        // What refuses is asked before, and on record is what is begun before the first byte is gone.
        const { totalBytes } = await pool.wipeTrashed(id, 0, 0);
        await this.#records.set(id, { ...trashed, wiped: { ...before, totalBytes } });
      }
      const done = await pool.wipeTrashed(id, before.doneBytes, mostBytes);
      await this.#records.set(id, { ...trashed, wiped: { ...before, ...done } });
      return done;
    });
  }

  /**
   * Deletes what is in it for ever. Throws `volume-not-found`, and, unless that is `unwiped`, `volume-not-wiped` for what is to be
   * overwritten before. Repeatable after an error.
   */
  async purge(pool: PoolOperations, id: string, unwiped = false): Promise<void> {
    await this.#alone(id, async () => {
      const { wiped } = this.find(id);
      if (!unwiped && wiped && wiped.doneBytes !== wiped.totalBytes)
        throw new StowageError(
          'volume-not-wiped',
          `${id} is to be overwritten before it goes, and is not yet`,
        );
      await pool.purge(id);
      await this.#forget(id);
    });
  }

  /** It is done: where the record cannot be written any more, it is one of nothing. */
  async #forget(id: string): Promise<void> {
    await this.#records.delete(id).catch(() => {
      this.#absent = new Set([...this.#absent, id]);
    });
  }

  has(id: string): boolean {
    return this.#records.get(id) !== undefined;
  }

  /** Throws `volume-not-found`. */
  find(id: string): TrashedVolume {
    const found = this.#records.get(id);
    if (!found) throw new StowageError('volume-not-found', `nothing in the trash has the id ${id}`);
    return found;
  }

  async #alone<T>(id: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy.has(id))
      throw new StowageError('volume-in-use', `${id} is being restored, overwritten or deleted already`);
    this.#busy.add(id);
    try {
      return await work();
    } finally {
      this.#busy.delete(id);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#records[Symbol.asyncDispose]();
  }
}
