import type { Invitation, OpenInvitation, User } from '../../shared/protocol/api.ts';
import type { Role } from '../../shared/protocol/rights.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { StoredUser } from '../store/repositories/users.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { ProvenIdentity } from './open-id.ts';
import { checkPassword, hashPassword } from './passwords.ts';
import { hashOf, newSecret } from './random-secret.ts';
import type { Sessions } from './sessions.ts';

const INVITATION_MS = 3 * 24 * 3600_000;

/** What somebody may do, and where. */
export interface Rights {
  role: Role;
  scopes: string[];
}

function shown({ id, name, role, scopes, createdAt, ...user }: StoredUser, hasPasskeys: boolean): User {
  return {
    ...{ id, name, role, scopes, createdAt },
    hasPassword: user.passwordHash !== undefined,
    isLinked: user.subject !== undefined,
    hasSecondFactor: user.totp !== undefined || hasPasskeys,
  };
}

/** People who sign in. A user and a token never have the same name: the audit trail names both by it. */
export class Users {
  readonly #store: Store;
  readonly #sessions: Sessions;

  constructor(store: Store, sessions: Sessions) {
    this.#store = store;
    this.#sessions = sessions;
  }

  async list(): Promise<User[]> {
    const owners = await this.#store.secondFactors.owners();
    return (await this.#store.users.all()).map((user) => shown(user, owners.has(user.id)));
  }

  /** Throws `user-not-found`. */
  async find(name: string): Promise<User> {
    const user = known(await this.#store.users.byName(name), name);
    return shown(user, await this.#hasPasskeys(user));
  }

  async #hasPasskeys({ id }: StoredUser): Promise<boolean> {
    return (await this.#store.secondFactors.passkeysOf(id)).length > 0;
  }

  /** Whether there is no user yet. */
  isEmpty(): Promise<boolean> {
    return this.#store.users.isEmpty();
  }

  /**
   * A one-time right to become a user of a name; without one the first administrator chooses it. An earlier invitation of the name ends.
   * Throws `user-exists` where a user or a token has the name.
   */
  async invite(name: string | undefined, rights: Rights): Promise<Invitation> {
    return this.#give(async (transaction) => {
      if (name === undefined) return { name, ...rights };
      if (await transaction.users.byName(name))
        throw new StowageError(
          'user-exists',
          `there is a user '${name}' already; stowage user reset gives a new password`,
        );
      await refuseTaken(transaction, name);
      return { name, ...rights };
    });
  }

  /** A one-time right of a user to set a new password: their second factor goes with the old one. Throws `user-not-found`. */
  async reset(name: string): Promise<Invitation> {
    return this.#give(async ({ users }) => {
      const { role, scopes } = known(await users.byName(name), name);
      return { name, role, scopes };
    });
  }

  async #give(whom: (transaction: Transaction) => Promise<Rights & { name?: string }>): Promise<Invitation> {
    const token = newSecret();
    const expiresAt = clock.now() + INVITATION_MS;
    await this.#store.transaction(async (transaction) => {
      const { name, role, scopes } = await whom(transaction);
      await transaction.users.putInvitation({ name, role, scopes, expiresAt }, hashOf(token));
    });
    return { token, expiresAt };
  }

  /** Invitations that nobody has taken yet, and that have not expired. */
  async invitations(): Promise<OpenInvitation[]> {
    const names = new Set((await this.#store.users.all()).map(({ name }) => name));
    const open = await this.#store.users.invitations(clock.now());
    return (
      open
        // The first user has come: it lets nobody in any more.
        .filter(({ name }) => name !== undefined || names.size === 0)
        .map((each) => ({ ...each, isReset: each.name !== undefined && names.has(each.name) }))
    );
  }

  /** Ends an invitation: its link lets nobody in any more. Throws `invitation-not-found`. */
  async withdraw(name: string): Promise<void> {
    const goodUntil = await this.#store.transaction(({ users }) => users.removeInvitationOf(name));
    if (goodUntil === undefined || goodUntil <= clock.now())
      throw new StowageError('invitation-not-found', `there is no open invitation of '${name}'`);
  }

  /** Whom an invitation is for; `name` is absent where it is to be chosen. Throws `invitation-refused`. */
  async invited(token: string): Promise<{ name?: string; role: Role }> {
    const { name, role } = await invitationIn(this.#store, token);
    return { name, role };
  }

  /**
   * Takes an invitation, once. Gives the user in a transaction in which the caller does the rest. Throws `invitation-refused`,
   * `invalid-argument` for a bad password, `user-exists`.
   */
  async accept<T>(
    { token, name: chosen, password }: { token: string; name?: string; password: string },
    rest: (transaction: Transaction, user: StoredUser, isNew: boolean) => Promise<T>,
  ): Promise<T> {
    // Looked at before the work of hashing, too.
    const name = (await invitationIn(this.#store, token)).name ?? chosen;
    if (name === undefined) throw new StowageError('invalid-argument', 'name: is missing');
    checkPassword(password, name);
    const passwordHash = await hashPassword(password);
    let tell = (): void => undefined;
    const result = await this.#store.transaction(async (transaction) => {
      const { users } = transaction;
      const { role, scopes, ...invitation } = await invitationIn(transaction, token);
      const there = await users.byName(name);
      if (there && invitation.name === undefined)
        throw new StowageError('user-exists', `there is a user '${name}' already`);
      if (!there) await refuseTaken(transaction, name);
      const base = there ?? { id: clock.uuid(), name, role, scopes, createdAt: clock.now() };
      const user: StoredUser = { ...base, passwordHash, totp: undefined, totpUsed: undefined };
      await users.put(user);
      await transaction.secondFactors.removeOf(user.id);
      await users.removeInvitation(hashOf(token));
      // Whoever came first has come.
      await users.removeNamelessInvitation();
      tell = await this.#sessions.endOthers(transaction, user.id);
      return rest(transaction, user, !there);
    });
    tell();
    return result;
  }

  /**
   * In a transaction: the user whom an OpenID provider names, made when they come for the first time; what they may do there, they may
   * here. `hasOtherRights` where that is not what they might before. Throws `user-exists` where another user, or a token, has the name: nobody takes over what is not theirs.
   */
  async proven(
    transaction: Transaction,
    { subject, name, role }: ProvenIdentity,
  ): Promise<{ user: StoredUser; hasOtherRights: boolean }> {
    const { users } = transaction;
    const there = await users.bySubject(subject);
    if (!there) {
      if (await users.byName(name)) throw new StowageError('user-exists', `there is another user '${name}'`);
      await refuseTaken(transaction, name);
      // Or it would set a password on what is theirs.
      await users.removeInvitationOf(name);
    }
    const base = there ?? { id: clock.uuid(), name, subject, scopes: [], createdAt: clock.now() };
    const user: StoredUser = { ...base, role };
    await users.put(user);
    await users.removeNamelessInvitation();
    return { user, hasOtherRights: there !== undefined && there.role !== role };
  }

  /** Gives a user other rights, from now on. Throws `user-not-found`. */
  async set(name: string, rights: Partial<Rights>): Promise<User> {
    const user = await this.#store.transaction(async ({ users }) => {
      const changed = { ...known(await users.byName(name), name), ...rights };
      await users.put(changed);
      // An invitation that is on its way gives no rights that were taken.
      await users.removeInvitationOf(name);
      return changed;
    });
    await this.#sessions.rightsChanged(user.id);
    return shown(user, await this.#hasPasskeys(user));
  }

  /** Ends all sessions of a user. Throws `user-not-found`. */
  async remove(name: string): Promise<void> {
    let tell = (): void => undefined;
    await this.#store.transaction(async (transaction) => {
      const user = known(await transaction.users.byName(name), name);
      tell = await this.#sessions.endOthers(transaction, user.id);
      await transaction.users.remove(user.id);
      await transaction.users.removeInvitationOf(name);
    });
    tell();
  }
}

function known(user: StoredUser | undefined, name: string): StoredUser {
  if (user) return user;
  throw new StowageError('user-not-found', `there is no user '${name}'`);
}

async function refuseTaken({ tokens }: Transaction, name: string): Promise<void> {
  if (await tokens.byName(name))
    throw new StowageError('user-exists', `a token is named '${name}': the audit trail must tell them apart`);
}

async function invitationIn({ users }: Pick<Store, 'users'>, token: string) {
  const found = await users.invitation(hashOf(token));
  const isLate = found?.name === undefined && !(await users.isEmpty());
  if (!found || isLate || found.expiresAt <= clock.now())
    throw new StowageError(
      'invitation-refused',
      'this link was used, was withdrawn, or has expired: ask for another one (stowage user invite)',
    );
  return found;
}
