import type { OwnAccount } from '../../shared/protocol/api.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Sealing } from '../secrets/sealing.ts';
import type { StoredUser } from '../store/repositories/users.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { Asked, Passkeys, Registration } from './passkeys.ts';
import { checkPassword, hashPassword, isPassword } from './passwords.ts';
import type { Principal } from './principal.ts';
import { newRecoveryCodes, recoveryHash } from './recovery-codes.ts';
import { newTotp, stepOfCode } from './second-factor.ts';
import type { Sessions } from './sessions.ts';
import { SlowDown } from './slow-down.ts';

/** So many a user has at most. */
const MOST_PASSKEYS = 20;

/** For which user a secret of a second factor is sealed. */
export const totpLabel = (userId: string): string => `totp ${userId}`;

/** What people change of their own account. Throws `forbidden` for whoever is no person, such as a token, and `not-supported` where a password must confirm it and there is none: of people who sign in by a provider. */
export class Account {
  readonly #store: Store;
  readonly #sessions: Sessions;
  readonly #sealing: Sealing;
  readonly #passkeys: Passkeys;
  /** Whoever has found an open session does not try passwords in it. */
  readonly #byUser = new SlowDown(5, 60_000);

  constructor(store: Store, sessions: Sessions, sealing: Sealing, passkeys: Passkeys) {
    this.#store = store;
    this.#sessions = sessions;
    this.#sealing = sealing;
    this.#passkeys = passkeys;
  }

  async show(principal: Principal): Promise<OwnAccount> {
    const { id, name, createdAt, passwordHash, subject, totp } = await this.#user(principal);
    const { secondFactors } = this.#store;
    const passkeys = await secondFactors.passkeysOf(id);
    const hasCodes = totp !== undefined;
    return {
      ...{ id, name, createdAt, hasCodes },
      hasPassword: passwordHash !== undefined,
      hasSecondFactor: hasCodes || passkeys.length > 0,
      isLinked: subject !== undefined,
      passkeys: passkeys.map(({ id, name, createdAt, usedAt }) => ({ id, name, createdAt, usedAt })),
      recoveryCodesLeft: await secondFactors.countRecoveryCodes(id),
    };
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
    await this.#change(user, { totp: undefined, totpUsed: undefined }, principal.id, (transaction) =>
      this.#dropIdleCodes(transaction, user.id),
    );
  }

  /** What a browser is asked to make a passkey; nothing is changed yet. */
  async newPasskey(principal: Principal, origin: string): Promise<Asked> {
    const user = await this.#user(principal);
    return this.#passkeys.askToRegister(user, await this.#store.secondFactors.passkeysOf(user.id), origin);
  }

  /** From now on it lets its user in, and the password alone does not. Throws `sign-in-refused` for a wrong password or passkey. */
  async addPasskey(
    principal: Principal,
    given: { password: string; name: string; state: string; response: Registration },
    origin: string,
  ): Promise<void> {
    const user = await this.#confirmed(principal, given.password);
    const passkey = await this.#passkeys.registered(user, given, origin);
    await this.#change(user, {}, principal.id, async ({ secondFactors }) => {
      if (await secondFactors.passkey(passkey.id))
        throw new StowageError('sign-in-refused', 'this passkey is known already');
      if ((await secondFactors.passkeysOf(user.id)).length >= MOST_PASSKEYS)
        throw new StowageError('too-large', `nobody has more than ${MOST_PASSKEYS} passkeys`);
      await secondFactors.putPasskey(passkey);
    });
  }

  /** Throws `sign-in-refused` for a wrong password. A passkey that is gone is no error. */
  async removePasskey(
    principal: Principal,
    { password, id }: { password: string; id: string },
  ): Promise<void> {
    const user = await this.#confirmed(principal, password);
    await this.#change(user, {}, principal.id, async (transaction) => {
      const { secondFactors } = transaction;
      if ((await secondFactors.passkey(id))?.userId === user.id) await secondFactors.removePasskey(id);
      await this.#dropIdleCodes(transaction, user.id);
    });
  }

  /** With the last second factor the codes go that stand in for it. */
  async #dropIdleCodes({ users, secondFactors }: Transaction, id: string): Promise<void> {
    const hasCodes = (await users.byId(id))?.totp !== undefined;
    const hasPasskeys = (await secondFactors.passkeysOf(id)).length > 0;
    if (!hasCodes && !hasPasskeys) await secondFactors.putRecoveryCodes(id, []);
  }

  /** Codes that let their user in beside the password, each once; earlier ones do so no more. Throws `sign-in-refused`. */
  async newRecoveryCodes(principal: Principal, password: string): Promise<string[]> {
    const user = await this.#confirmed(principal, password);
    const codes = newRecoveryCodes();
    await this.#change(user, {}, principal.id, ({ secondFactors }) =>
      secondFactors.putRecoveryCodes(
        user.id,
        codes.map((code) => recoveryHash(code)!),
      ),
    );
    return codes;
  }

  async #user({ user, name }: Principal): Promise<StoredUser> {
    const found = user === undefined ? undefined : await this.#store.users.byId(user);
    if (!found) throw new StowageError('forbidden', `'${name}' is a token, and no user who signs in`);
    return found;
  }

  async #confirmed(principal: Principal, password: string): Promise<StoredUser> {
    const user = await this.#user(principal);
    if (user.passwordHash === undefined)
      throw new StowageError(
        'not-supported',
        'you have no password here: you sign in by the provider of your organisation',
      );
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
    more?: (transaction: Transaction) => Promise<void>,
  ): Promise<void> {
    let tell = (): void => undefined;
    await this.#store.transaction(async (transaction) => {
      const now = await transaction.users.byId(id);
      const sessions = await transaction.users.sessionsOf(id);
      if (!now || now.passwordHash !== passwordHash || !sessions.some((each) => each.id === session))
        throw new StowageError('sign-in-refused', 'your password was changed meanwhile: sign in again');
      await transaction.users.put({ ...now, ...changes });
      await more?.(transaction);
      tell = await this.#sessions.endOthers(transaction, id, session);
    });
    tell();
  }
}
