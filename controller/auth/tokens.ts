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

/** The name of the token that the controller makes for its own machine. */
const ADMIN = 'admin';

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
    await this.#store.transaction(async (transaction) => {
      const owner = await ownerOf(transaction, asked.name);
      if (owner !== undefined)
        throw new StowageError('token-exists', `${owner}: the audit trail must tell them apart`);
      await transaction.tokens.insert(token, hashOf(secret));
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

  /**
   * A new secret for the administrator's token of this machine, `admin`, which ends the one before. Where there is no such token any more,
   * one is made only while nobody else is an administrator, under a name that nobody has; undefined otherwise: whoever revoked it meant
   * it. `record` puts it on record, in the same transaction.
   */
  async renewAdmin(
    record: (transaction: Transaction, name: string) => Promise<unknown>,
  ): Promise<string | undefined> {
    const { secret, before } = await this.#store.transaction(async (transaction) => {
      const { tokens, users } = transaction;
      const named = await tokens.byName(ADMIN);
      // Somebody may have given the name to a token of their own since.
      const there = named && isAdmin(named) ? named : undefined;
      const isNeeded =
        !(await tokens.all()).some((token) => isAdmin(token) && isInForce(token)) &&
        !(await users.all()).some(({ role, scopes }) => role === 'admin' && scopes.length === 0);
      if (!there && !isNeeded) return {};
      const name = there ? ADMIN : await freeName(transaction);
      const made = fresh({ name, role: 'admin', scopes: [] });
      if (there) await tokens.remove(there.id);
      await tokens.insert(made.token, hashOf(made.secret));
      await record(transaction, name);
      return { secret: made.secret, before: there?.id };
    });
    if (before !== undefined) this.#revocations.emit('revoked', before);
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

/** Who has a name, in words; undefined for a name that is free. */
async function ownerOf({ tokens, users }: Transaction, name: string): Promise<string | undefined> {
  if (await tokens.byName(name)) return `there is a token named '${name}' already`;
  if (await users.byName(name)) return `a user is named '${name}'`;
  const invited = await users.invitations(clock.now());
  return invited.some((invitation) => invitation.name === name)
    ? `'${name}' is invited as a user`
    : undefined;
}

async function freeName(transaction: Transaction): Promise<string> {
  for (let number = 1; ; number++) {
    const name = number === 1 ? ADMIN : `${ADMIN}-${number}`;
    if ((await ownerOf(transaction, name)) === undefined) return name;
  }
}

function fresh({ name, role, scopes, expiresAt }: NewToken): { token: Token; secret: string } {
  const secret = `stow_${newSecret()}`;
  return { token: { id: clock.uuid(), name, role, scopes, createdAt: clock.now(), expiresAt }, secret };
}
