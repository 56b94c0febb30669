import type { Kysely } from 'kysely';
import { z } from 'zod';
import { scopeSchema } from '../../../shared/protocol/api.ts';
import type { Role } from '../../../shared/protocol/rights.ts';
import type { Database, InvitationRow, SessionRow, UserRow } from '../schema.ts';

/** A user as the store keeps it. */
export interface StoredUser {
  id: string;
  name: string;
  role: Role;
  scopes: string[];
  passwordHash?: string;
  subject?: string;
  /** Sealed. */
  totp?: string;
  totpUsed?: number;
  createdAt: number;
}

export interface StoredSession {
  id: string;
  userId: string;
  source: string;
  client: string;
  createdAt: number;
  usedAt: number;
}

export interface StoredInvitation {
  name?: string;
  role: Role;
  scopes: string[];
  expiresAt: number;
}

const scopesOf = (text: string): string[] => z.array(scopeSchema).parse(JSON.parse(text));

const userOf = (row: UserRow): StoredUser => ({
  ...{ id: row.id, name: row.name, role: row.role },
  scopes: scopesOf(row.scopes),
  passwordHash: row.password_hash ?? undefined,
  subject: row.subject ?? undefined,
  totp: row.totp ?? undefined,
  totpUsed: row.totp_used ?? undefined,
  createdAt: row.created_at,
});

const sessionOf = (row: SessionRow): StoredSession => ({
  ...{ id: row.id, source: row.source, client: row.client },
  userId: row.user_id,
  createdAt: row.created_at,
  usedAt: row.used_at,
});

const invitationOf = (row: InvitationRow): StoredInvitation => ({
  name: row.name ?? undefined,
  role: row.role,
  scopes: scopesOf(row.scopes),
  expiresAt: row.expires_at,
});

export class UserReader {
  protected readonly db: Kysely<Database>;

  constructor(db: Kysely<Database>) {
    this.db = db;
  }

  async all(): Promise<StoredUser[]> {
    return (await this.db.selectFrom('users').selectAll().orderBy('name').execute()).map(userOf);
  }

  async isEmpty(): Promise<boolean> {
    return (await this.db.selectFrom('users').select('id').limit(1).executeTakeFirst()) === undefined;
  }

  async #by(column: 'id' | 'name' | 'subject', value: string): Promise<StoredUser | undefined> {
    const row = await this.db.selectFrom('users').selectAll().where(column, '=', value).executeTakeFirst();
    return row && userOf(row);
  }

  byId(id: string): Promise<StoredUser | undefined> {
    return this.#by('id', id);
  }

  byName(name: string): Promise<StoredUser | undefined> {
    return this.#by('name', name);
  }

  bySubject(subject: string): Promise<StoredUser | undefined> {
    return this.#by('subject', subject);
  }

  async session(hash: string): Promise<StoredSession | undefined> {
    const row = await this.db.selectFrom('sessions').selectAll().where('hash', '=', hash).executeTakeFirst();
    return row && sessionOf(row);
  }

  /** Of a user, the one used last first. */
  async sessionsOf(userId: string): Promise<StoredSession[]> {
    const rows = await this.db
      .selectFrom('sessions')
      .selectAll()
      .where('user_id', '=', userId)
      .orderBy('used_at', 'desc')
      .execute();
    return rows.map(sessionOf);
  }

  /** Those that are good at `now`, by their names. */
  async invitations(now: number): Promise<StoredInvitation[]> {
    const rows = await this.db
      .selectFrom('invitations')
      .selectAll()
      .where('expires_at', '>', now)
      .orderBy('name')
      .execute();
    return rows.map(invitationOf);
  }

  async invitation(hash: string): Promise<StoredInvitation | undefined> {
    const row = await this.db
      .selectFrom('invitations')
      .selectAll()
      .where('hash', '=', hash)
      .executeTakeFirst();
    return row && invitationOf(row);
  }
}

export class UserWriter extends UserReader {
  async put({ scopes, passwordHash, totpUsed, createdAt, ...user }: StoredUser): Promise<void> {
    const row = {
      ...{ id: user.id, name: user.name, role: user.role },
      scopes: JSON.stringify(scopes),
      password_hash: passwordHash ?? null,
      subject: user.subject ?? null,
      totp: user.totp ?? null,
      totp_used: totpUsed ?? null,
      created_at: createdAt,
    };
    await this.db
      .insertInto('users')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute();
  }

  /** With the sessions, passkeys and recovery codes of the user. */
  async remove(id: string): Promise<void> {
    for (const table of ['sessions', 'passkeys', 'recovery_codes'] as const)
      await this.db.deleteFrom(table).where('user_id', '=', id).execute();
    await this.db.deleteFrom('users').where('id', '=', id).execute();
  }

  async insertSession({ userId, createdAt, usedAt, ...session }: StoredSession, hash: string): Promise<void> {
    await this.db
      .insertInto('sessions')
      .values({ ...session, hash, user_id: userId, created_at: createdAt, used_at: usedAt })
      .execute();
  }

  async setSessionUsed(id: string, now: number): Promise<void> {
    await this.db.updateTable('sessions').set({ used_at: now }).where('id', '=', id).execute();
  }

  async removeSession(id: string): Promise<void> {
    await this.db.deleteFrom('sessions').where('id', '=', id).execute();
  }

  /** All of a user, but one. */
  async removeSessionsOf(userId: string, kept?: string): Promise<void> {
    const query = this.db.deleteFrom('sessions').where('user_id', '=', userId);
    await (kept === undefined ? query : query.where('id', '!=', kept)).execute();
  }

  async removeSessionsBefore(createdBefore: number, usedBefore: number): Promise<void> {
    await this.db
      .deleteFrom('sessions')
      .where(({ eb, or }) => or([eb('created_at', '<', createdBefore), eb('used_at', '<', usedBefore)]))
      .execute();
  }

  /** In the place of the one of the same name, or of the other one without a name. */
  async putInvitation({ name, role, scopes, expiresAt }: StoredInvitation, hash: string): Promise<void> {
    await this.db
      .deleteFrom('invitations')
      .where('name', name === undefined ? 'is' : '=', name ?? null)
      .execute();
    await this.db
      .insertInto('invitations')
      .values({ hash, name: name ?? null, role, scopes: JSON.stringify(scopes), expires_at: expiresAt })
      .execute();
  }

  async removeInvitation(hash: string): Promise<void> {
    await this.db.deleteFrom('invitations').where('hash', '=', hash).execute();
  }

  async removeNamelessInvitation(): Promise<void> {
    await this.db.deleteFrom('invitations').where('name', 'is', null).execute();
  }

  /** Until when it was good; undefined where there was none. */
  async removeInvitationOf(name: string): Promise<number | undefined> {
    const removed = await this.db
      .deleteFrom('invitations')
      .where('name', '=', name)
      .returning('expires_at')
      .executeTakeFirst();
    return removed?.expires_at;
  }
}
