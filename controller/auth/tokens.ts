import type { Token } from '../../shared/protocol/api.ts';
import type { Role } from '../../shared/protocol/rights.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { HostLabels } from './host-labels.ts';
import type { Principal } from './principal.ts';
import { hashOf, newSecret } from './random-secret.ts';
import type { Revocations } from './revocations.ts';

/** The time of use is written at most so often. */
const USE_WRITTEN_MS = 60_000;

const isInForce = ({ expiresAt }: Token): boolean => expiresAt === undefined || expiresAt > clock.now();

/** One that may do everything, everywhere. */
const isAdmin = (token: Token): boolean => token.role === 'admin' && token.scopes.length === 0;

export interface NewToken {
  name: string;
  role: Role;
  scopes: string[];
  expiresAt?: number;
}

/** The tokens of programs. A token and a user never have the same name. */
export class Tokens {
  readonly #store: Store;
  readonly #labels: HostLabels;
  readonly #revocations: Revocations;

  constructor(store: Store, labels: HostLabels, revocations: Revocations) {
    this.#store = store;
    this.#labels = labels;
    this.#revocations = revocations;
  }

  /** The secret is given here once and stored only as a hash. Throws `token-exists`. */
  async create(asked: NewToken): Promise<{ token: Token; secret: string }> {
    const { token, secret } = fresh(asked);
    await this.#store.transaction(async ({ tokens, users }) => {
      if (await tokens.byName(asked.name))
        throw new StowageError('token-exists', `there is a token named '${asked.name}' already`);
      if (await users.byName(asked.name))
        throw new StowageError(
          'token-exists',
          `a user is named '${asked.name}': the audit trail must tell them apart`,
        );
      if ((await users.invitations(clock.now())).some(({ name }) => name === asked.name))
        throw new StowageError(
          'token-exists',
          `'${asked.name}' is invited as a user: the audit trail must tell them apart`,
        );
      await tokens.insert(token, hashOf(secret));
    });
    return { token, secret };
  }

  list(): Promise<Token[]> {
    return this.#store.tokens.all();
  }

  /** Throws `token-not-found`, and `last-admin` for the only administrator's token that is in force. */
  async revoke(name: string): Promise<void> {
    const revoked = await this.#store.transaction(async ({ tokens }) => {
      const all = await tokens.all();
      const token = all.find((each) => each.name === name);
      if (!token) throw new StowageError('token-not-found', `there is no token named '${name}'`);
      if (isAdmin(token) && !all.some((other) => other !== token && isAdmin(other) && isInForce(other)))
        throw new StowageError(
          'last-admin',
          `'${name}' is the last administrator's token: make another one first`,
        );
      await tokens.remove(token.id);
      return token.id;
    });
    this.#revocations.emit('revoked', revoked);
  }

  /** A new secret under a name, whatever had it before; `record` puts that on record, in the same transaction. */
  async replace(asked: NewToken, record: (transaction: Transaction) => Promise<unknown>): Promise<string> {
    const { token, secret } = fresh(asked);
    const before = await this.#store.transaction(async (transaction) => {
      const { tokens } = transaction;
      const there = await tokens.byName(asked.name);
      if (there) await tokens.remove(there.id);
      await tokens.insert(token, hashOf(secret));
      await record(transaction);
      return there;
    });
    if (before) this.#revocations.emit('revoked', before.id);
    return secret;
  }

  /** Who an `Authorization` header stands for. Throws `unauthenticated`. */
  async authenticate(header: string | undefined): Promise<Principal> {
    if (header === undefined)
      throw new StowageError('unauthenticated', 'send a token: Authorization: Bearer …');
    const secret = /^Bearer (\S{8,200})$/.exec(header)?.[1];
    if (!secret) throw new StowageError('unauthenticated', 'what was sent is no token of Stowage');
    const token = await this.#store.tokens.byHash(hashOf(secret));
    if (!token || !isInForce(token))
      throw new StowageError('unauthenticated', 'the token is unknown, revoked or expired');
    const { id, name, role, scopes, usedAt } = token;
    const now = clock.now();
    if (usedAt === undefined || now - usedAt > USE_WRITTEN_MS) {
      const used = this.#store.transaction(({ tokens }) => tokens.setUsed(id, now));
      // The next request says it again.
      used.catch(() => undefined);
    }
    return { id, kind: 'token', name, role, scopes, labels: this.#labels };
  }
}

function fresh({ name, role, scopes, expiresAt }: NewToken): { token: Token; secret: string } {
  const secret = `stow_${newSecret()}`;
  return { token: { id: clock.uuid(), name, role, scopes, createdAt: clock.now(), expiresAt }, secret };
}
