import type { FleetPool, SpacePoint } from '../../shared/protocol/api.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { RESOLUTIONS, type Resolution } from '../store/repositories/space-history.ts';
import type { Store } from '../store/store.ts';

const HOUR_MS = RESOLUTIONS.hour.stepMs;
const DAY_MS = RESOLUTIONS.day.stepMs;
/** A change of less than this share of the capacity is noted when the last note is older than {@link SLOW_MS}. */
const SHARE = 0.001;
const SLOW_MS = 600_000;
const PAGE = 1000;
/** Points that are forgotten at once. */
const FORGOTTEN = 2000;

/** All pools together. */
const FLEET = '';

/** How the space of pools was used: in minutes for a day, in hours for a month, in days for years. */
export class SpaceHistory {
  readonly #store: Store;
  /** What was noted last, by place. */
  readonly #last = new Map<string, SpacePoint>();
  #rolledUntil: number | undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** From a time on, ms since the epoch; of all pools together without a place (`host/pool`). */
  since(from: number, place = FLEET): Promise<SpacePoint[]> {
    return this.#store.spaceHistory.since(place, from, clock.now());
  }

  /** Notes what has changed. Called every minute. */
  async note(): Promise<void> {
    const at = clock.now() - (clock.now() % RESOLUTIONS.minute.stepMs);
    const rows: ({ place: string } & SpacePoint)[] = [];
    const all: SpacePoint = { at, capacityBytes: 0, allocationBytes: 0, peakBytes: 0 };
    const seen = new Set<string>([FLEET]);
    const take = (place: string, now: SpacePoint): void => {
      if (this.#isNews(this.#last.get(place), now)) rows.push({ place, ...now });
    };
    for (let after: string | undefined; ; ) {
      const page: FleetPool[] = await this.#store.pools.list({ limit: PAGE, after });
      for (const { host, name, state, capacityBytes, allocationBytes, provisionedBytes } of page) {
        const place = `${host}/${name}`;
        seen.add(place);
        // Of all together an absent one counts as it was last: a host that is away frees nothing.
        all.capacityBytes += capacityBytes;
        all.allocationBytes += allocationBytes;
        all.provisionedBytes = (all.provisionedBytes ?? 0) + (provisionedBytes ?? 0);
        // By itself it has no use now that could be told.
        if (state === 'running')
          take(place, { at, capacityBytes, allocationBytes, peakBytes: allocationBytes, provisionedBytes });
      }
      if (page.length < PAGE) break;
      const last = page.at(-1)!;
      after = `${last.host}/${last.name}`;
    }
    take(FLEET, { ...all, peakBytes: all.allocationBytes });
    if (rows.length > 0) {
      await this.#store.transaction(({ spaceHistory }) => spaceHistory.add(rows));
      for (const { place, ...point } of rows) this.#last.set(place, point);
    }
    for (const place of this.#last.keys()) if (!seen.has(place)) this.#last.delete(place);
    await this.#rollUp(at);
  }

  #isNews(before: SpacePoint | undefined, now: SpacePoint): boolean {
    if (!before) return true;
    const change = Math.max(
      Math.abs(now.allocationBytes - before.allocationBytes),
      Math.abs((now.provisionedBytes ?? 0) - (before.provisionedBytes ?? 0)),
      Math.abs(now.capacityBytes - before.capacityBytes),
    );
    return change > now.capacityBytes * SHARE || (change > 0 && now.at - before.at >= SLOW_MS);
  }

  /** Once an hour: what is over gets its hour, and its day, and only then what is too old is forgotten. A step at a time: others have turns. */
  async #rollUp(now: number): Promise<void> {
    const hour = now - (now % HOUR_MS);
    if (this.#rolledUntil === hour) return;
    await this.#rollInto('minute', 'hour', hour);
    await this.#rollInto('hour', 'day', now - (now % DAY_MS));
    for (const resolution of ['minute', 'hour', 'day'] as const) {
      const before = hour - RESOLUTIONS[resolution].keptMs;
      while (
        await this.#store.transaction(({ spaceHistory }) =>
          spaceHistory.forget(resolution, before, FORGOTTEN),
        )
      )
        await sleep(0);
    }
    this.#rolledUntil = hour;
  }

  /** Of the steps before `end` that are not done yet; after a start of all that are kept. */
  async #rollInto(finer: Resolution, into: Resolution, end: number): Promise<void> {
    const { stepMs } = RESOLUTIONS[into];
    const oldest = await this.#store.spaceHistory.oldest(finer);
    if (oldest === undefined) return;
    const since = Math.max(oldest, (this.#rolledUntil ?? 0) - stepMs);
    for (let at = since - (since % stepMs); at < end; at += stepMs) {
      await this.#store.transaction(({ spaceHistory }) => spaceHistory.rollUp(finer, into, at));
      await sleep(0);
    }
  }
}
