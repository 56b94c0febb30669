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

const pointOf = (row: SpaceHistoryRow): SpacePoint => ({
  at: row.at,
  capacityBytes: row.capacity_bytes,
  allocationBytes: row.allocation_bytes,
  peakBytes: row.peak_bytes,
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
    // Each resolution by itself, which its index leads to; the latest of them held.
    const older: SpaceHistoryRow[] = [];
    for (const each of ['minute', 'hour', 'day'] as const)
      older.push(
        ...(await ofPlace
          .where('resolution', '=', each)
          .where('at', '<', from)
          .orderBy('at', 'desc')
          .limit(1)
          .execute()),
      );
    const [before] = older.toSorted((one, other) => other.at - one.at);
    const points = await ofPlace
      .where('resolution', '=', resolution)
      .where('at', '>=', from)
      .orderBy('at')
      .limit(MOST)
      .execute();
    // Of what is not rolled up yet the minutes tell.
    const rolled = points.at(-1);
    const unrolled = rolled ? rolled.at + RESOLUTIONS[resolution].stepMs : from;
    const fresh =
      resolution === 'minute'
        ? []
        : await ofPlace
            .where('resolution', '=', 'minute')
            .where('at', '>=', unrolled)
            .orderBy('at')
            .limit(MOST)
            .execute();
    return [...(before ? [before] : []), ...points, ...fresh].map(pointOf);
  }

  /** The time of the oldest point of a resolution. */
  async oldest(resolution: Resolution): Promise<number | undefined> {
    const row = await this.db
      .selectFrom('space_history')
      .select('at')
      .where('resolution', '=', resolution)
      .orderBy('at')
      .limit(1)
      .executeTakeFirst();
    return row?.at;
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
            .map(({ place, at, capacityBytes, allocationBytes, peakBytes, provisionedBytes }) => ({
              ...{ place, at, resolution: 'minute' as const },
              capacity_bytes: capacityBytes,
              allocation_bytes: allocationBytes,
              peak_bytes: peakBytes,
              provisioned_bytes: provisionedBytes ?? null,
            })),
        )
        .onConflict((conflict) => conflict.columns(['place', 'resolution', 'at']).doNothing())
        .execute();
  }

  /**
   * Makes of the points of one step (from `at` on) one point, for each place that has any: what it ended with, and the highest use, that
   * with which it began included. Repeatable.
   */
  async rollUp(finer: Resolution, into: Resolution, at: number): Promise<void> {
    const end = at + RESOLUTIONS[into].stepMs;
    await sql`
      INSERT INTO space_history (place, resolution, at, capacity_bytes, allocation_bytes, peak_bytes, provisioned_bytes)
      SELECT ended.place, ${into}, ${sql.lit(at)}, ended.capacity_bytes, ended.allocation_bytes,
        (SELECT max(peak_bytes) FROM space_history AS peak
          WHERE peak.place = span.place AND peak.resolution = ${finer} AND peak.at < ${end} AND peak.at >= coalesce(
            (SELECT max(older.at) FROM space_history AS older
              WHERE older.place = span.place AND older.resolution = ${finer} AND older.at < ${at} AND span.first > ${at}),
            ${at})),
        ended.provisioned_bytes
      FROM (SELECT place, min(at) AS first, max(at) AS last FROM space_history
        WHERE resolution = ${finer} AND at >= ${at} AND at < ${end} GROUP BY place) AS span
      JOIN space_history AS ended
        ON ended.place = span.place AND ended.resolution = ${finer} AND ended.at = span.last
      WHERE true
      ON CONFLICT (place, resolution, at) DO NOTHING`.execute(this.db);
  }

  /** Forgets at most so many that are older than a time; whether there may be more. */
  async forget(resolution: Resolution, before: number, most: number): Promise<boolean> {
    const { numDeletedRows } = await this.db
      .deleteFrom('space_history')
      .where(({ eb, refTuple, selectFrom }) =>
        eb(
          refTuple('place', 'resolution', 'at'),
          'in',
          selectFrom('space_history as old')
            .select(['old.place', 'old.resolution', 'old.at'])
            .where('old.resolution', '=', resolution)
            .where('old.at', '<', before)
            .limit(most)
            .$asTuple('place', 'resolution', 'at'),
        ),
      )
      .executeTakeFirst();
    return Number(numDeletedRows) === most;
  }
}
