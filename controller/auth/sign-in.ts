import { clock } from '../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditEntry, AuditTrail } from '../audit/trail.ts';
import type { Sealing } from '../secrets/sealing.ts';
import type { StoredUser } from '../store/repositories/users.ts';
import type { Store, Transaction } from '../store/store.ts';
import { totpLabel } from './account.ts';
import { FailedAttempts, MOST_FAILURES } from './failed-attempts.ts';
import { networkOf } from './network.ts';
import type { ProvenIdentity } from './open-id.ts';
import type { Asked, Assertion, Passkeys } from './passkeys.ts';
import { isPassword } from './passwords.ts';
import { recoveryHash } from './recovery-codes.ts';
import { stepOfCode } from './second-factor.ts';
import type { ClientAddress, Sessions } from './sessions.ts';
import { SlowDown } from './slow-down.ts';
import type { Users } from './users.ts';

interface Parts {
  store: Store;
  users: Users;
  sessions: Sessions;
  audit: AuditTrail;
  sealing: Sealing;
  passkeys: Passkeys;
}

export interface PasswordCredentials {
  name: string;
  password: string;
  /** Of the app that shows codes, or for recovery. */
  code?: string;
}

/** The way in for people. Each success, and each refusal, is on record; of many refusals in a minute only that they came. */
export class SignIn {
  readonly #parts: Parts;
  readonly #refusals = new FailedAttempts();
  /** Tries of one account from one network. */
  readonly #byBoth = new SlowDown(5, 30_000);
  /** From all networks together, but for those from which the account is signed in: nobody keeps somebody else out of theirs. */
  readonly #byAccount = new SlowDown(50, 30_000);
  readonly #bySource = new SlowDown(30, 300_000);
  /** Of codes there are a million only: whoever knows the password tries few of them. */
  readonly #byCode = new SlowDown(5, 3600_000);

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Gives what the browser keeps of a new session. Throws `sign-in-refused`, which does not say what is wrong,
   * `second-factor-missing` where a code is needed beside the right password, `rate-limited` with the time to wait.
   */
  async withPassword(credentials: PasswordCredentials, address: ClientAddress): Promise<string> {
    const { name } = credentials;
    const network = networkOf(address.source);
    try {
      this.#bySource.begin(network);
      this.#byBoth.begin(`${network} ${name}`);
      if (!(await this.#isKnown(name, network))) this.#byAccount.begin(name);
      const secret = await this.#begin(credentials, address);
      this.#byBoth.succeeded(`${network} ${name}`);
      this.#bySource.takeBack(network);
      return secret;
    } catch (error) {
      // The first half of signing in is no try.
      if (isStowageError(error, 'second-factor-missing')) this.#bySource.takeBack(network);
      return this.#refuse('session.begin', name, address, error);
    }
  }

  /** Whether an account has a session that was begun from a network. */
  async #isKnown(name: string, network: string): Promise<boolean> {
    const { users } = this.#parts.store;
    const user = await users.byName(name);
    const sessions = user ? await users.sessionsOf(user.id) : [];
    return sessions.some(({ source }) => networkOf(source) === network);
  }

  async #begin({ name, password, code }: PasswordCredentials, address: ClientAddress): Promise<string> {
    const { store, sessions, audit } = this.#parts;
    const found = await store.users.byName(name);
    const isRight = await isPassword(password, found?.passwordHash);
    const refusal = new StowageError('sign-in-refused', 'the name, the password or the code is wrong');
    if (!found || !isRight) throw refusal;
    const isAlone = await this.#isPasswordEnough(store, found);
    if (!isAlone && code === undefined) throw this.#missing(found);
    // A recovery code cannot be guessed: whoever knows the password only keeps nobody from using one.
    if (!isAlone && recoveryHash(code ?? '') === undefined) this.#byCode.begin(found.id);
    return store
      .transaction(async (transaction) => {
        const user = await transaction.users.byId(found.id);
        if (!user || user.passwordHash !== found.passwordHash) throw refusal;
        // A passkey may have been added since.
        const isEnough = await this.#isPasswordEnough(transaction, user);
        if (!isEnough && code === undefined) throw this.#missing(user);
        const detail = isEnough ? 'by password' : await this.#takeCode(transaction, user, code ?? '');
        if (detail === undefined) throw refusal;
        await audit.appendIn(transaction, this.#record('session.begin', user.name, address, 'done', detail));
        return sessions.begin(transaction, user, address);
      })
      .then((secret) => {
        this.#byCode.succeeded(found.id);
        return secret;
      });
  }

  async #isPasswordEnough(
    { secondFactors }: Pick<Store, 'secondFactors'>,
    { id, totp }: StoredUser,
  ): Promise<boolean> {
    return totp === undefined && (await secondFactors.passkeysOf(id)).length === 0;
  }

  #missing({ totp }: StoredUser): StowageError {
    return new StowageError(
      'second-factor-missing',
      totp === undefined
        ? 'sign in with your passkey, or type a recovery code'
        : 'type the code that your app shows, or a recovery code',
    );
  }

  /** How somebody came in by a code beside the password; undefined where it is wrong, or was used. */
  async #takeCode(
    { users, secondFactors }: Transaction,
    user: StoredUser,
    code: string,
  ): Promise<string | undefined> {
    const totpUsed = this.#stepOf(user, code);
    if (totpUsed !== undefined) {
      await users.put({ ...user, totpUsed });
      return 'by password and code';
    }
    const hash = recoveryHash(code);
    if (hash === undefined || !(await secondFactors.takeRecoveryCode(user.id, hash))) return undefined;
    return `by password and recovery code; ${await secondFactors.countRecoveryCodes(user.id)} are left`;
  }

  #stepOf({ id, totp, totpUsed }: StoredUser, code: string): number | undefined {
    if (totp === undefined) return undefined;
    return stepOfCode(this.#parts.sealing.open(totp, totpLabel(id)), code, totpUsed);
  }

  /** What a browser is asked to sign in by a passkey. Throws `rate-limited`. */
  async askForPasskey(origin: string, { source }: ClientAddress): Promise<Asked> {
    this.#bySource.begin(networkOf(source));
    const asked = await this.#parts.passkeys.askToSignIn(origin);
    this.#bySource.takeBack(networkOf(source));
    return asked;
  }

  /** Signs in whose passkey has signed. Throws `sign-in-refused`, `rate-limited`. */
  async withPasskey(
    given: { state: string; response: Assertion },
    origin: string,
    address: ClientAddress,
  ): Promise<string> {
    const { store, sessions, audit, passkeys } = this.#parts;
    const refusal = new StowageError('sign-in-refused', 'this passkey is not known here');
    return this.#admit('session.begin', address, async (named) => {
      const known = await store.secondFactors.passkey(given.response.id);
      if (!known) throw refusal;
      named((await store.users.byId(known.userId))?.name);
      const counter = await passkeys.signed(known, given, origin);
      return store.transaction(async (transaction) => {
        const passkey = await transaction.secondFactors.passkey(known.id);
        const user = passkey && (await transaction.users.byId(passkey.userId));
        if (!user || passkey.counter !== known.counter) throw refusal;
        await transaction.secondFactors.putPasskey({ ...passkey, counter, usedAt: clock.now() });
        const detail = `by passkey '${passkey.name}'`;
        await audit.appendIn(transaction, this.#record('session.begin', user.name, address, 'done', detail));
        return sessions.begin(transaction, user, address);
      });
    });
  }

  /** Takes an invitation and signs in. Throws as {@link Users.accept} does, and `rate-limited`. */
  async withInvitation(
    given: { token: string; name?: string; password: string },
    address: ClientAddress,
  ): Promise<string> {
    const { users, sessions, audit } = this.#parts;
    return this.#admit('user.accept', address, (named) => {
      named(given.name);
      return users.accept(given, async (transaction, user, isNew) => {
        const detail = isNew ? `a new ${user.role}, by invitation` : 'a new password, by invitation';
        await audit.appendIn(transaction, this.#record('user.accept', user.name, address, 'done', detail));
        return sessions.begin(transaction, user, address);
      });
    });
  }

  /** Signs in whom an OpenID provider names, by what `prove` settles with. Throws what that does, and `user-exists`. */
  async withProvider(prove: () => Promise<ProvenIdentity>, address: ClientAddress): Promise<string> {
    const { store, users, sessions, audit } = this.#parts;
    return this.#admit('session.begin', address, async (named) => {
      const identity = await prove();
      named(identity.name);
      const { secret, otherRightsOf } = await store.transaction(async (transaction) => {
        const { user, hasOtherRights } = await users.proven(transaction, identity);
        const detail = `by OpenID, as ${user.role}`;
        await audit.appendIn(transaction, this.#record('session.begin', user.name, address, 'done', detail));
        return {
          secret: await sessions.begin(transaction, user, address),
          otherRightsOf: hasOtherRights ? user.id : undefined,
        };
      });
      if (otherRightsOf !== undefined) await sessions.rightsChanged(otherRightsOf);
      return secret;
    });
  }

  /** A way in, tried from an address, which counts until it has succeeded; `named` tells whose it is as soon as that is known. */
  async #admit(
    action: string,
    address: ClientAddress,
    enter: (named: (name: string | undefined) => void) => Promise<string>,
  ): Promise<string> {
    const network = networkOf(address.source);
    let name = '';
    try {
      this.#bySource.begin(network);
      const secret = await enter((known = '') => {
        name = known;
      });
      this.#bySource.takeBack(network);
      return secret;
    } catch (error) {
      // What is our fault, or that of the provider, is no try.
      if (toStowageError(error).status >= 500) this.#bySource.takeBack(network);
      return this.#refuse(action, name, address, error);
    }
  }

  /** Ends a session. One that has ended before is no error. */
  async out(secret: string, address: ClientAddress): Promise<void> {
    const { audit, sessions } = this.#parts;
    const principal = await sessions.authenticate(secret, false).catch((error: unknown) => {
      if (!isStowageError(error, 'unauthenticated')) throw error;
      return undefined;
    });
    if (principal?.user === undefined) return;
    await audit.append(this.#record('session.end', principal.name, address, 'done', 'signed out'));
    await sessions.end(principal.user, principal.id).catch((error: unknown) => {
      if (!isStowageError(error, 'session-not-found')) throw error;
    });
  }

  #record(
    action: string,
    name: string,
    { source }: ClientAddress,
    outcome: AuditEntry['outcome'],
    detail: string,
  ): AuditEntry {
    const actor = outcome === 'done' ? name : 'nobody';
    return { actor, source, action, target: `user ${name}`, outcome, detail };
  }

  async #refuse(action: string, name: string, address: ClientAddress, error: unknown): Promise<never> {
    const { message, code, status } = toStowageError(error);
    // The first half of signing in, and no refusal.
    if (code === 'second-factor-missing') throw error;
    // What was only typed wrongly is told, and no more.
    if (action === 'user.accept' && code === 'invalid-argument') throw error;
    const { count, tooMany } = this.#refusals.note(networkOf(address.source));
    const last = count === MOST_FAILURES ? '; what else comes from there in this minute is not recorded' : '';
    if (!tooMany)
      await this.#parts.audit.append(
        this.#record(
          action,
          name,
          address,
          status >= 500 ? 'failed' : 'refused',
          `${message} [${code}]${last}`,
        ),
      );
    throw error;
  }
}
