import type { Kysely } from 'kysely';
import { z } from 'zod';
import { type Secret, scopeSchema, secretKindSchema } from '../../../shared/protocol/api.ts';
import type { Database, SecretRow } from '../schema.ts';

/** A secret with its value, which only its key opens. */
export interface SealedSecret extends Secret {
  sealed: string;
}

function secretOf(row: SecretRow): SealedSecret {
  return {
    id: row.id,
    kind: secretKindSchema.parse(row.kind),
    usage: row.usage,
    description: row.description ?? undefined,
    scopes: z.array(scopeSchema).parse(JSON.parse(row.scopes)),
    changedAt: row.changed_at,
    sealed: row.sealed,
  };
}

export class SecretReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  async all(): Promise<SealedSecret[]> {
    const rows = await this.db.selectFrom('secrets').selectAll().orderBy('kind').orderBy('usage').execute();
    return rows.map(secretOf);
  }

  async byId(id: string): Promise<SealedSecret | undefined> {
    const row = await this.db.selectFrom('secrets').selectAll().where('id', '=', id).executeTakeFirst();
    return row && secretOf(row);
  }

  async byUsage(kind: string, usage: string): Promise<SealedSecret | undefined> {
    const row = await this.db
      .selectFrom('secrets')
      .selectAll()
      .where('kind', '=', kind)
      .where('usage', '=', usage)
      .executeTakeFirst();
    return row && secretOf(row);
  }
}

export class SecretWriter extends SecretReader {
  /** In the place of the one of the same id, if there is one. */
  async put({ id, kind, usage, description, scopes, changedAt, sealed }: SealedSecret): Promise<void> {
    const row = {
      ...{ id, kind, usage, sealed },
      description: description ?? null,
      scopes: JSON.stringify(scopes),
      changed_at: changedAt,
    };
    await this.db
      .insertInto('secrets')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
  }

  async remove(id: string): Promise<boolean> {
    const removed = await this.db
      .deleteFrom('secrets')
      .where('id', '=', id)
      .returning('id')
      .executeTakeFirst();
    return removed !== undefined;
  }
}
