import type { Kysely } from 'kysely';
import { z } from 'zod';
import { scopeSchema, type Token } from '../../../shared/protocol/api.ts';
import type { Database, TokenRow } from '../schema.ts';

function tokenOf(row: TokenRow): Token {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    scopes: z.array(scopeSchema).parse(JSON.parse(row.scopes)),
    createdAt: row.created_at,
    expiresAt: row.expires_at ?? undefined,
    usedAt: row.used_at ?? undefined,
  };
}

export class TokenReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  async all(): Promise<Token[]> {
    return (await this.db.selectFrom('tokens').selectAll().orderBy('name').execute()).map(tokenOf);
  }

  async byName(name: string): Promise<Token | undefined> {
    const row = await this.db.selectFrom('tokens').selectAll().where('name', '=', name).executeTakeFirst();
    return row && tokenOf(row);
  }

  async byHash(hash: string): Promise<Token | undefined> {
    const row = await this.db.selectFrom('tokens').selectAll().where('hash', '=', hash).executeTakeFirst();
    return row && tokenOf(row);
  }
}

export class TokenWriter extends TokenReader {
  async insert({ id, name, role, scopes, createdAt, expiresAt }: Token, hash: string): Promise<void> {
    await this.db
      .insertInto('tokens')
      .values({
        ...{ id, name, role, hash },
        scopes: JSON.stringify(scopes),
        created_at: createdAt,
        expires_at: expiresAt ?? null,
      })
      .execute();
  }

  async setUsed(id: string, now: number): Promise<void> {
    await this.db.updateTable('tokens').set({ used_at: now }).where('id', '=', id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.db.deleteFrom('tokens').where('id', '=', id).execute();
  }
}
