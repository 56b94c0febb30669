import type { Kysely } from 'kysely';
import type { Domain } from '../../../shared/protocol/domains.ts';
import type { Database, EventRow } from '../schema.ts';

/** What has changed: a host, a pool, a volume, a domain or a job. */
export type Change =
  | { type: 'host'; host: string }
  | { type: 'pool'; host: string; pool: string }
  | { type: 'volume'; host: string; pool: string; volume: string }
  | { type: 'domain'; host: string; origin: Domain['origin']; domain: string; uuid?: string }
  | { type: 'job'; job: number };

export type NumberedChange = Change & { seq: number };

/** Most rows of one statement. */
const ROWS = 500;

function nameOf(change: Change): string | null {
  switch (change.type) {
    case 'volume':
      return change.volume;
    case 'domain':
      return change.domain;
    case 'job':
      return String(change.job);
    default:
      return null;
  }
}

function changeOf({ seq, type, host, pool, origin, name, uuid }: EventRow): NumberedChange {
  switch (type) {
    case 'host':
      return { seq, type, host: host! };
    case 'pool':
      return { seq, type, host: host!, pool: pool! };
    case 'volume':
      return { seq, type, host: host!, pool: pool!, volume: name! };
    case 'domain':
      return { seq, type, host: host!, origin: origin!, domain: name!, uuid: uuid ?? undefined };
    case 'job':
      return { seq, type, job: Number(name) };
  }
}

export class EventReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** Changes after a number, in their order. */
  async after(seq: number, limit: number): Promise<NumberedChange[]> {
    const rows = await this.db
      .selectFrom('events')
      .selectAll()
      .where('seq', '>', seq)
      .orderBy('seq')
      .limit(limit)
      .execute();
    return rows.map(changeOf);
  }

  /** The numbers of the oldest change that is kept and of the newest; undefined when there is none. */
  async range(): Promise<{ first: number; last: number } | undefined> {
    // One at a time each is an end of the index; together they would be looked for in all rows.
    const [first, last] = await Promise.all(
      (['asc', 'desc'] as const).map((order) =>
        this.db.selectFrom('events').select('seq').orderBy('seq', order).limit(1).executeTakeFirst(),
      ),
    );
    return first && last && { first: first.seq, last: last.seq };
  }
}

export class EventWriter extends EventReader {
  async append(changes: readonly Change[], now: number): Promise<void> {
    const rows = changes.map((change) => ({
      at: now,
      type: change.type,
      host: 'host' in change ? change.host : null,
      pool: 'pool' in change ? change.pool : null,
      origin: change.type === 'domain' ? change.origin : null,
      uuid: change.type === 'domain' ? (change.uuid ?? null) : null,
      name: nameOf(change),
    }));
    for (let from = 0; from < rows.length; from += ROWS)
      await this.db
        .insertInto('events')
        .values(rows.slice(from, from + ROWS))
        .execute();
  }

  /** Forgets at most `most` of those before a number. */
  async forget(before: number, most: number): Promise<void> {
    const { seq: first } =
      (await this.db.selectFrom('events').select('seq').orderBy('seq').limit(1).executeTakeFirst()) ?? {};
    if (first === undefined) return;
    await this.db
      .deleteFrom('events')
      .where('seq', '<', Math.min(before, first + most))
      .execute();
  }
}
