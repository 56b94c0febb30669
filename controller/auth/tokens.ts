import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store } from '../store/open.ts';
import { ROLES, type Role, type TokenRow } from '../store/schema.ts';

export interface Actor {
  name: string;
  role: Role;
}

export type TokenInfo = Omit<TokenRow, 'hash'>;

// A token is 256 random bits, so a plain hash is enough: there is nothing to guess.
const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** Whether `role` may do what needs `needed`: admin may all, operator what operators and viewers may. */
export function allows(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** Emits `revoked` with the name of a token that is in force no more. */
export class Tokens extends EventEmitter<{ revoked: [string] }> {
  readonly #store: Store;

  constructor(store: Store) {
    super();
    this.setMaxListeners(0);
    this.#store = store;
  }

  /** The secret is given here once and stored only as a hash. */
  async create(name: string, role: Role, expiresAt?: number): Promise<{ info: TokenInfo; secret: string }> {
    const taken = await this.#store
      .selectFrom('tokens')
      .select('id')
      .where('name', '=', name)
      .executeTakeFirst();
    if (taken) throw new StowageError('token-exists', `there is a token named '${name}' already`);
    const secret = `stow_${clock.randomBytes(32).toString('base64url')}`;
    const info = { id: clock.uuid(), name, role, created_at: clock.now(), expires_at: expiresAt ?? null };
    await this.#store
      .insertInto('tokens')
      .values({ ...info, hash: hashOf(secret) })
      .execute();
    return { info, secret };
  }

  list(): Promise<TokenInfo[]> {
    return this.#store
      .selectFrom('tokens')
      .select(['id', 'name', 'role', 'created_at', 'expires_at'])
      .orderBy('name')
      .execute();
  }

  /** Throws `token-not-found`, and `last-admin` for the only administrator's token that is in force. */
  async revoke(name: string): Promise<void> {
    const result = await this.#store
      .deleteFrom('tokens')
      .where('name', '=', name)
      .where((row) =>
        row.or([
          row('role', '!=', 'admin'),
          row.exists(
            row
              .selectFrom('tokens as other')
              .select('other.id')
              .where('other.role', '=', 'admin')
              .where('other.name', '!=', name)
              .where((other) =>
                other.or([
                  other('other.expires_at', 'is', null),
                  other('other.expires_at', '>', clock.now()),
                ]),
              ),
          ),
        ]),
      )
      .executeTakeFirst();
    if (result.numDeletedRows > 0n) {
      this.emit('revoked', name);
      return;
    }
    if ((await this.list()).some((token) => token.name === name))
      throw new StowageError(
        'last-admin',
        `'${name}' is the last administrator's token: make another one first`,
      );
    throw new StowageError('token-not-found', `there is no token named '${name}'`);
  }

  /** A new secret under a name, whatever had it before. */
  async replace(name: string, role: Role): Promise<string> {
    await this.#store.deleteFrom('tokens').where('name', '=', name).execute();
    this.emit('revoked', name);
    return (await this.create(name, role)).secret;
  }

  /** Who an `Authorization` header stands for. Throws `unauthenticated`. */
  async authenticate(header: string | undefined): Promise<Actor> {
    const secret = /^Bearer (\S{8,200})$/.exec(header ?? '')?.[1];
    if (header === undefined)
      throw new StowageError('unauthenticated', 'send a token: Authorization: Bearer …');
    if (!secret) throw new StowageError('unauthenticated', 'what was sent is no token of Stowage');
    const row = await this.#store
      .selectFrom('tokens')
      .selectAll()
      .where('hash', '=', hashOf(secret))
      .executeTakeFirst();
    if (!row || (row.expires_at !== null && row.expires_at < clock.now()))
      throw new StowageError('unauthenticated', 'the token is unknown, revoked or expired');
    return { name: row.name, role: row.role };
  }
}
