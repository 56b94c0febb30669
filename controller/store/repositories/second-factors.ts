import type { Kysely } from 'kysely';
import { z } from 'zod';
import type { Database, PasskeyRow } from '../schema.ts';

/** A passkey of a user, as the store keeps it. */
export interface StoredPasskey {
  /** Of the credential, base64url. */
  id: string;
  userId: string;
  /** As its user calls it. */
  name: string;
  /** COSE, base64url. */
  publicKey: string;
  /** Of signatures; 0 for ever where the authenticator does not count. */
  counter: number;
  transports: string[];
  createdAt: number;
  usedAt?: number;
}

const passkeyOf = (row: PasskeyRow): StoredPasskey => ({
  ...{ id: row.id, name: row.name, counter: row.counter },
  userId: row.user_id,
  publicKey: row.public_key,
  transports: z.array(z.string()).parse(JSON.parse(row.transports)),
  createdAt: row.created_at,
  usedAt: row.used_at ?? undefined,
});

/** Passkeys of users, and the codes by which they come back without one. */
export class SecondFactorReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  /** Of a user, the oldest first. */
  async passkeysOf(userId: string): Promise<StoredPasskey[]> {
    const rows = await this.db
      .selectFrom('passkeys')
      .selectAll()
      .where('user_id', '=', userId)
      .orderBy('created_at')
      .orderBy('id')
      .execute();
    return rows.map(passkeyOf);
  }

  async passkey(id: string): Promise<StoredPasskey | undefined> {
    const row = await this.db.selectFrom('passkeys').selectAll().where('id', '=', id).executeTakeFirst();
    return row && passkeyOf(row);
  }

  /** Ids of the users who have passkeys. */
  async owners(): Promise<Set<string>> {
    const rows = await this.db.selectFrom('passkeys').select('user_id').distinct().execute();
    return new Set(rows.map((row) => row.user_id));
  }

  async countRecoveryCodes(userId: string): Promise<number> {
    const { count } = await this.db
      .selectFrom('recovery_codes')
      .select(({ fn }) => fn.countAll().as('count'))
      .where('user_id', '=', userId)
      .executeTakeFirstOrThrow();
    return Number(count);
  }
}

export class SecondFactorWriter extends SecondFactorReader {
  async putPasskey({
    userId,
    publicKey,
    transports,
    createdAt,
    usedAt,
    ...key
  }: StoredPasskey): Promise<void> {
    const row = {
      ...key,
      user_id: userId,
      public_key: publicKey,
      transports: JSON.stringify(transports),
      created_at: createdAt,
      used_at: usedAt ?? null,
    };
    await this.db
      .insertInto('passkeys')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
  }

  async removePasskey(id: string): Promise<void> {
    await this.db.deleteFrom('passkeys').where('id', '=', id).execute();
  }

  /** In the place of those that there are. */
  async putRecoveryCodes(userId: string, hashes: readonly string[]): Promise<void> {
    await this.db.deleteFrom('recovery_codes').where('user_id', '=', userId).execute();
    const rows = hashes.map((hash) => ({ hash, user_id: userId }));
    if (rows.length > 0) await this.db.insertInto('recovery_codes').values(rows).execute();
  }

  /** Whether a user had a code of this hash, which is none from now on. */
  async takeRecoveryCode(userId: string, hash: string): Promise<boolean> {
    const { numDeletedRows } = await this.db
      .deleteFrom('recovery_codes')
      .where('user_id', '=', userId)
      .where('hash', '=', hash)
      .executeTakeFirstOrThrow();
    return numDeletedRows > 0n;
  }

  /** All passkeys and codes of a user. */
  async removeOf(userId: string): Promise<void> {
    await this.db.deleteFrom('passkeys').where('user_id', '=', userId).execute();
    await this.db.deleteFrom('recovery_codes').where('user_id', '=', userId).execute();
  }
}
