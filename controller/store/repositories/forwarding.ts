import type { Kysely } from 'kysely';
import type { Database } from '../schema.ts';

/** Up to which record each destination has the trail. */
export class ForwardingReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** The number of the last record; 0 before the first. */
  async position(destination: string): Promise<number> {
    const row = await this.db
      .selectFrom('forwarding')
      .select('seq')
      .where('destination', '=', destination)
      .executeTakeFirst();
    return row?.seq ?? 0;
  }
}

export class ForwardingWriter extends ForwardingReader {
  async note(destination: string, seq: number): Promise<void> {
    await this.db
      .insertInto('forwarding')
      .values({ destination, seq })
      .onConflict((conflict) => conflict.column('destination').doUpdateSet({ seq }))
      .execute();
  }
}
