import type { User } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Sealing } from '../secrets/sealing.ts';
import type { StoredUser } from '../store/repositories/users.ts';
import type { Store } from '../store/store.ts';
import { checkPassword, hashPassword, isPassword } from './passwords.ts';
import type { Principal } from './principal.ts';
import { newTotp, stepOfCode } from './second-factor.ts';
import type { Sessions } from './sessions.ts';
import { SlowDown } from './slow-down.ts';

/** For which user a secret of a second factor is sealed. */
export const totpLabel = (userId: string): string => `totp ${userId}`;

/** What people change of their own account. Throws `forbidden` for whoever is no person, such as a token. */
export class Account {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #sealing: Sealing;
  /** Whoever has found an open session does not try passwords in it. */
  readonly #byUser = new SlowDown(5, 60_000);

  constructor(store: Store, sessions: Sessions, sealing: Sealing) {
    this.#store = store;
    this.#sessions = sessions;
    this.#sealing = sealing;
  }

  async show(principal: Principal): Promise<Omit<User, 'role' | 'scopes'>> {
    const { id, name, createdAt, passwordHash, subject, totp } = await this.#user(principal);
    const has = { hasPassword: passwordHash !== undefined, hasSecondFactor: totp !== undefined };
    return { id, name, createdAt, ...has, isLinked: subject !== undefined };
  }

  /** Ends all other sessions. Throws `sign-in-refused` for a wrong old one. */
  async setPassword(principal: Principal, before: string, password: string): Promise<void> {
    const user = await this.#confirmed(principal, before);
    checkPassword(password, user.name);
    const passwordHash = await hashPassword(password);
    await this.#change(user, { passwordHash }, principal.id);
  }

  /** A second factor to be confirmed by its first code; nothing is changed yet. The secret comes back with the code. */
  async newSecondFactor(principal: Principal): Promise<{ secret: string; uri: string }> {
    const { name } = await this.#user(principal);
    return newTotp(name);
  }

  /** From now on a code is asked for, too. Throws `sign-in-refused` for a wrong password or code. */
  async setSecondFactor(
    principal: Principal,
    { password, secret, code }: { password: string; secret: string; code: string },
  ): Promise<void> {
    const user = await this.#confirmed(principal, password);
    const step = stepOfCode(secret, code, undefined);
    if (step === undefined)
      throw new StowageError('sign-in-refused', 'the code is wrong: look whether the time of your device is');
    const totp = this.#sealing.seal(secret, totpLabel(user.id));
    await this.#change(user, { totp, totpUsed: step }, principal.id);
  }

  /** Throws `sign-in-refused` for a wrong password. */
  async removeSecondFactor(principal: Principal, password: string): Promise<void> {
    const user = await this.#confirmed(principal, password);
    await this.#change(user, { totp: undefined, totpUsed: undefined }, principal.id);
  }

  async #user({ user, name }: Principal): Promise<StoredUser> {
    const found = user === undefined ? undefined : await this.#store.users.byId(user);
    if (!found) throw new StowageError('forbidden', `'${name}' is a token, and no user who signs in`);
    return found;
  }

  async #confirmed(principal: Principal, password: string): Promise<StoredUser> {
    const user = await this.#user(principal);
    this.#byUser.begin(user.id);
    if (!(await isPassword(password, user.passwordHash)))
      throw new StowageError('sign-in-refused', 'the password is wrong');
    this.#byUser.succeeded(user.id);
    return user;
  }

  /** Only while the password that was confirmed is the password, and the session is one: a reset meanwhile has the last word. */
  async #change(
    { id, passwordHash }: StoredUser,
    changes: Partial<StoredUser>,
    session: string,
  ): Promise<void> {
    let tell = (): void => undefined;
    await this.#store.transaction(async (transaction) => {
      const now = await transaction.users.byId(id);
      const sessions = await transaction.users.sessionsOf(id);
      if (!now || now.passwordHash !== passwordHash || !sessions.some((each) => each.id === session))
        throw new StowageError('sign-in-refused', 'your password was changed meanwhile: sign in again');
      await transaction.users.put({ ...now, ...changes });
      tell = await this.#sessions.endOthers(transaction, id, session);
    });
    tell();
  }
}
