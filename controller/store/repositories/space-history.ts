import { type Kysely, sql } from 'kysely';
import type { SpacePoint } from '../../../shared/protocol/api.ts';
import type { Database, SpaceHistoryRow } from '../schema.ts';

export type Resolution = SpaceHistoryRow['resolution'];

/** What each step of a resolution lasts, ms, and how long it is kept. */
const DAY_MS = 24 * 3600_000;
export const RESOLUTIONS = {
  minute: { stepMs: 60_000, keptMs: DAY_MS },
  hour: { stepMs: 3600_000, keptMs: 31 * DAY_MS },
  day: { stepMs: DAY_MS, keptMs: 10 * 366 * DAY_MS },
} as const;

/** Most points of an answer. */
const MOST = 5000;

const pointOf = (
  row: Pick<SpaceHistoryRow, 'at' | 'capacity_bytes' | 'allocation_bytes' | 'provisioned_bytes'>,
): SpacePoint => ({
  at: row.at,
  capacityBytes: row.capacity_bytes,
  allocationBytes: row.allocation_bytes,
  provisionedBytes: row.provisioned_bytes ?? undefined,
});

/** A place is `host/pool`, or empty for all pools together. A point holds until the next one: what stays as it is costs nothing. */
export class SpaceHistoryReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** From a time on, in the finest resolution that is kept so long; the first point may be older: it held then. */
  async since(place: string, from: number, now: number): Promise<SpacePoint[]> {
    const ageMs = now - from;
    const resolution: Resolution =
      ageMs <= RESOLUTIONS.minute.keptMs ? 'minute' : ageMs <= RESOLUTIONS.hour.keptMs ? 'hour' : 'day';
    const ofPlace = this.db.selectFrom('space_history').selectAll().where('place', '=', place);
    const before = await ofPlace.where('at', '<', from).orderBy('at', 'desc').limit(1).executeTakeFirst();
    const points = await ofPlace
      .where('resolution', '=', resolution)
      .where('at', '>=', from)
      .orderBy('at')
      .limit(MOST)
      .execute();
    // Of what is not rolled up yet the minutes tell.
    const last = points.at(-1)?.at ?? from;
    const fresh =
      resolution === 'minute'
        ? []
        : await ofPlace
            .where('resolution', '=', 'minute')
            .where('at', '>', last)
            .orderBy('at')
            .limit(MOST)
            .execute();
    return [...(before ? [before] : []), ...points, ...fresh].map(pointOf);
  }
}

export class SpaceHistoryWriter extends SpaceHistoryReader {
  async add(rows: readonly ({ place: string } & SpacePoint)[]): Promise<void> {
    for (let from = 0; from < rows.length; from += 500)
      await this.db
        .insertInto('space_history')
        .values(
          rows
            .slice(from, from + 500)
            .map(({ place, at, capacityBytes, allocationBytes, provisionedBytes }) => ({
              ...{ place, at, resolution: 'minute' as const },
              capacity_bytes: capacityBytes,
              allocation_bytes: allocationBytes,
              provisioned_bytes: provisionedBytes ?? null,
            })),
        )
        .onConflict((conflict) => conflict.columns(['place', 'resolution', 'at']).doNothing())
        .execute();
  }

  /**
   * Makes of the points between two times, whole steps, one for each step in which there are any: the highest use of it, that with which
   * the step began included. Repeatable.
   */
  async rollUp(finer: Resolution, into: Resolution, from: number, to: number): Promise<void> {
    const step = sql`at - at % ${sql.lit(RESOLUTIONS[into].stepMs)}`;
    const sizes = sql.raw('capacity_bytes, allocation_bytes, provisioned_bytes');
    const inside = sql`FROM space_history WHERE resolution = ${finer} AND at >= ${from} AND at < ${to}`;
    await sql`
      INSERT INTO space_history (place, resolution, at, ${sizes})
      SELECT place, ${into}, step, max(capacity_bytes), max(allocation_bytes), max(provisioned_bytes) FROM (
        SELECT place, ${step} AS step, ${sizes} ${inside}
        UNION ALL
        SELECT begun.place, begun.step, ${sizes}
        FROM (SELECT place, ${step} AS step, min(at) AS first ${inside} GROUP BY place, ${step}) AS begun
        JOIN space_history AS held ON held.place = begun.place AND held.resolution = ${finer} AND held.at = (
          SELECT max(at) FROM space_history AS older
          WHERE older.place = begun.place AND older.resolution = ${finer} AND older.at < begun.step)
        WHERE begun.first > begun.step
      ) AS points
      GROUP BY place, step
      ON CONFLICT (place, resolution, at) DO NOTHING`.execute(this.db);
  }

  async forget(resolution: Resolution, before: number): Promise<void> {
    await this.db
      .deleteFrom('space_history')
      .where('resolution', '=', resolution)
      .where('at', '<', before)
      .execute();
  }
}
