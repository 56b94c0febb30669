import type { Volume } from '../../shared/conf/volume.ts';
import type { KnownPool } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import type { PoolChange } from './operations.ts';

/** Changes that can still be told one by one; who is further behind is told everything. */
const MOST = 10_000;

/** The volumes of a pool, and in which order they last changed: who knows an older state is told only what differs. */
export class VolumeLog {
  readonly volumes = new Map<string, Volume>();
  /** Changes when the order of revisions begins anew. */
  generation = clock.uuid();
  revision = 0;
  /** Of all volumes together. */
  capacityBytes = 0;
  /** By name: the revision of its last change, and the id of what went away. In the order of revisions. */
  readonly #changes = new Map<string, { revision: number; goneId?: string }>();
  /** Up to this revision changes are not known one by one. */
  #forgotten = 0;

  /** Notes a change; gives its revision. */
  apply({ volumes, gone }: PoolChange): number {
    this.revision++;
    for (const { name, id } of gone) {
      this.capacityBytes -= this.volumes.get(name)?.capacityBytes ?? 0;
      this.volumes.delete(name);
      this.#note(name, id);
    }
    for (const volume of volumes) {
      this.capacityBytes += volume.capacityBytes - (this.volumes.get(volume.name)?.capacityBytes ?? 0);
      this.volumes.set(volume.name, volume);
      this.#note(volume.name);
    }
    return this.revision;
  }

  #note(name: string, goneId?: string): void {
    this.#changes.delete(name);
    this.#changes.set(name, { revision: this.revision, goneId });
    if (this.#changes.size <= MOST) return;
    const [oldest] = this.#changes;
    this.#changes.delete(oldest![0]);
    this.#forgotten = oldest![1].revision;
  }

  /** Nothing is in the pool, as when it is stopped. */
  clear(): void {
    this.volumes.clear();
    this.#changes.clear();
    this.capacityBytes = 0;
    this.generation = clock.uuid();
    this.revision = 0;
    this.#forgotten = 0;
  }

  /** What changed since somebody was told of a state; undefined when only everything helps. */
  since(known: KnownPool | undefined): PoolChange | undefined {
    if (known?.generation !== this.generation || known.revision < this.#forgotten) return undefined;
    const change: PoolChange = { volumes: [], gone: [] };
    for (const [name, { revision, goneId }] of this.#changes) {
      if (revision <= known.revision) continue;
      const volume = this.volumes.get(name);
      if (volume) change.volumes.push(volume);
      else if (goneId !== undefined) change.gone.push({ name, id: goneId });
    }
    return change;
  }
}

/** A change in lines of bounded length. */
export function* pagesOf(change: PoolChange, most = 256): Generator<PoolChange & { last: boolean }> {
  const { volumes, gone } = change;
  const count = Math.max(1, Math.ceil(Math.max(volumes.length, gone.length) / most));
  for (let page = 0; page < count; page++)
    yield {
      volumes: volumes.slice(page * most, (page + 1) * most),
      gone: gone.slice(page * most, (page + 1) * most),
      last: page === count - 1,
    };
}
