import type { Kysely } from 'kysely';
import type { Database } from '../schema.ts';

/** What a copy was made of, or last brought up to date from. */
export interface CopyRecord {
  /** Id of the volume. */
  sourceId: string;
  /** As it was at this snapshot. */
  snapshot: string | undefined;
  /** When the copy was whole, ms since the epoch. */
  copiedAt: number;
}

export class CopyReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** What a volume is a copy of, by its id; undefined where it is not known as a copy. */
  async find(volumeId: string): Promise<CopyRecord | undefined> {
    const row = await this.db
      .selectFrom('copies')
      .selectAll()
      .where('volume_id', '=', volumeId)
      .executeTakeFirst();
    return (
      row && { sourceId: row.source_id, snapshot: row.snapshot ?? undefined, copiedAt: Number(row.copied_at) }
    );
  }
}

export class CopyWriter extends CopyReader {
  async note(volumeId: string, { sourceId, snapshot, copiedAt }: CopyRecord): Promise<void> {
    const row = { source_id: sourceId, snapshot: snapshot ?? null, copied_at: copiedAt };
    await this.db
      .insertInto('copies')
      .values({ volume_id: volumeId, ...row })
      .onConflict((conflict) => conflict.column('volume_id').doUpdateSet(row))
      .execute();
  }

  /** Forgets the copies made before a time that no host has any more. */
  async forgetGone(before: number): Promise<void> {
    await this.db
      .deleteFrom('copies')
      .where('copied_at', '<', before)
      .where(({ not, exists, selectFrom }) =>
        not(
          exists(selectFrom('volumes').select('volumes.id').whereRef('volumes.id', '=', 'copies.volume_id')),
        ),
      )
      .execute();
  }
}
