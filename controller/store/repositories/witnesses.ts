import type { Kysely } from 'kysely';
import type { Database } from '../schema.ts';

const DAY_MS = 24 * 3600_000;

/** Up to where a witness has seen the trail. */
export interface WitnessRecord {
  name: string;
  /** The last record that it has seen; 0 before the first. */
  seq: number;
  hash: string;
  /** Of the Merkle tree up to there, hashes in base64. */
  frontier: string[];
  /** When it has signed that, ms since the epoch. */
  at: number;
}

export class WitnessReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  async find(name: string): Promise<WitnessRecord | undefined> {
    const row = await this.db.selectFrom('witnesses').selectAll().where('name', '=', name).executeTakeFirst();
    return row && { ...row, frontier: JSON.parse(row.frontier) as string[] };
  }

  /** What witnesses have signed, as signed notes: the last of each day, of each of them, the oldest first. */
  async notes(): Promise<string[]> {
    const rows = await this.db.selectFrom('witnessed').select('note').orderBy('day').execute();
    return rows.map(({ note }) => note);
  }
}

export class WitnessWriter extends WitnessReader {
  /** Up to where a witness has seen the trail, and what it has signed, if it signs. */
  async note({ frontier, ...seen }: WitnessRecord, note?: string): Promise<void> {
    const row = { ...seen, frontier: JSON.stringify(frontier) };
    await this.db
      .insertInto('witnesses')
      .values(row)
      .onConflict((conflict) => conflict.column('name').doUpdateSet(row))
      .execute();
    if (note === undefined) return;
    const day = Math.floor(seen.at / DAY_MS);
    await this.db
      .insertInto('witnessed')
      .values({ witness: seen.name, day, note })
      .onConflict((conflict) => conflict.columns(['witness', 'day']).doUpdateSet({ note }))
      .execute();
  }
}
