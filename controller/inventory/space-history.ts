import type { FleetPool, SpacePoint } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { RESOLUTIONS } from '../store/repositories/space-history.ts';
import type { Store } from '../store/store.ts';

const HOUR_MS = RESOLUTIONS.hour.stepMs;
const DAY_MS = RESOLUTIONS.day.stepMs;
/** A change of less than this share of the capacity is noted when the last note is older than {@link SLOW_MS}. */
const SHARE = 0.001;
const SLOW_MS = 600_000;
const PAGE = 1000;

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
    const all: SpacePoint = { at, capacityBytes: 0, allocationBytes: 0 };
    const seen = new Set<string>([FLEET]);
    const take = (place: string, now: SpacePoint): void => {
      if (this.#isNews(this.#last.get(place), now)) rows.push({ place, ...now });
    };
    for (let after: string | undefined; ; ) {
      const page: FleetPool[] = await this.#store.pools.list({ limit: PAGE, after });
      for (const { host, name, state, capacityBytes, allocationBytes, provisionedBytes } of page) {
        const place = `${host}/${name}`;
        seen.add(place);
        // What is not there now has no use that could be told.
        if (state !== 'running') continue;
        take(place, { at, capacityBytes, allocationBytes, provisionedBytes });
        all.capacityBytes += capacityBytes;
        all.allocationBytes += allocationBytes;
        all.provisionedBytes = (all.provisionedBytes ?? 0) + (provisionedBytes ?? 0);
      }
      if (page.length < PAGE) break;
      const last = page.at(-1)!;
      after = `${last.host}/${last.name}`;
    }
    take(FLEET, all);
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

  /** Once an hour, of the hours that are over; after a start of all that is kept. */
  async #rollUp(now: number): Promise<void> {
    const hour = now - (now % HOUR_MS);
    if (this.#rolledUntil === hour) return;
    const day = now - (now % DAY_MS);
    const from = this.#rolledUntil ?? hour - RESOLUTIONS.minute.keptMs;
    const fromDay = this.#rolledUntil === undefined ? day - RESOLUTIONS.hour.keptMs : day - DAY_MS;
    await this.#store.transaction(async ({ spaceHistory }) => {
      await spaceHistory.rollUp('minute', 'hour', from - (from % HOUR_MS), hour);
      await spaceHistory.rollUp('hour', 'day', fromDay - (fromDay % DAY_MS), day);
      for (const resolution of ['minute', 'hour', 'day'] as const)
        await spaceHistory.forget(resolution, hour - RESOLUTIONS[resolution].keptMs);
    });
    this.#rolledUntil = hour;
  }
}
