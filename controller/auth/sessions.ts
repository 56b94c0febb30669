import type { Session } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import { cut, StowageError } from '../../shared/util/errors.ts';
import type { StoredSession, StoredUser } from '../store/repositories/users.ts';
import type { Store, Transaction } from '../store/store.ts';
import type { HostLabels } from './host-labels.ts';
import type { Principal } from './principal.ts';
import { hashOf, newSecret } from './random-secret.ts';
import type { Revocations } from './revocations.ts';

/** A session ends after 12 hours without a request, and 7 days after signing in at the latest. */
const IDLE_MS = 12 * 3600_000;
const LONGEST_MS = 7 * 24 * 3600_000;
/** The time of use is written at most so often. */
const USE_WRITTEN_MS = 60_000;
const LONGEST_CLIENT = 200;

/** A clock may be set back by so much. */
const AHEAD_MS = 600_000;

/** When it ends. One that was begun or used in the future has ended: the clock was wrong then. */
const expiryOf = ({ createdAt, usedAt }: StoredSession): number =>
  Math.max(createdAt, usedAt) > clock.now() + AHEAD_MS
    ? 0
    : Math.min(usedAt + IDLE_MS, createdAt + LONGEST_MS);

/** From where somebody signs in. */
export interface ClientAddress {
  source: string;
  /** The program, as it names itself. */
  client: string;
}

/** The browsers in which people have signed in. Only a hash of what each browser keeps is stored. */
export class Sessions {
  readonly #store: Store;
  readonly #labels: HostLabels;
  readonly #revocations: Revocations;

  constructor(store: Store, labels: HostLabels, revocations: Revocations) {
    this.#store = store;
    this.#labels = labels;
    this.#revocations = revocations;
  }

  /** A new session, always: one that a browser had before is not taken up. Gives what the browser keeps. */
  async begin(
    transaction: Transaction,
    user: StoredUser,
    { source, client }: ClientAddress,
  ): Promise<string> {
    const secret = newSecret();
    const now = clock.now();
    const session = { id: clock.uuid(), userId: user.id, source, client: cut(client, LONGEST_CLIENT) };
    await transaction.users.insertSession({ ...session, createdAt: now, usedAt: now }, hashOf(secret));
    return secret;
  }

  /** Who signed in where this is kept; whether that is a use of the session. Throws `unauthenticated`. */
  async authenticate(secret: string, isUse: boolean): Promise<Principal> {
    const session = await this.#store.users.session(hashOf(secret));
    const user = session && (await this.#store.users.byId(session.userId));
    const now = clock.now();
    if (!session || !user || expiryOf(session) <= now)
      throw new StowageError('unauthenticated', 'the session has ended: sign in again');
    if (isUse && now - session.usedAt > USE_WRITTEN_MS) {
      const used = this.#store.transaction(({ users }) => users.setSessionUsed(session.id, now));
      // The next request says it again.
      used.catch(() => undefined);
    }
    const { name, role, scopes } = user;
    return { id: session.id, kind: 'user', user: user.id, name, role, scopes, labels: this.#labels };
  }

  /** Those of a user that are in force, the one used last first. */
  async list(userId: string, current: string): Promise<Session[]> {
    const sessions = await this.#store.users.sessionsOf(userId);
    return sessions
      .filter((session) => expiryOf(session) > clock.now())
      .map(({ userId: _, ...session }) => ({
        ...session,
        expiresAt: expiryOf({ ...session, userId }),
        isCurrent: session.id === current,
      }));
  }

  /** Ends one of a user's. Throws `session-not-found`. */
  async end(userId: string, id: string): Promise<void> {
    await this.#store.transaction(async ({ users }) => {
      const all = await users.sessionsOf(userId);
      if (!all.some((session) => session.id === id))
        throw new StowageError('session-not-found', 'you have no such session');
      await users.removeSession(id);
    });
    this.#revocations.emit('revoked', id);
  }

  /** In a transaction: ends all of a user's but one. Gives what must be told once it is written. */
  async endOthers({ users }: Transaction, userId: string, kept?: string): Promise<() => void> {
    const others = (await users.sessionsOf(userId)).filter(({ id }) => id !== kept);
    await users.removeSessionsOf(userId, kept);
    return () => {
      for (const { id } of others) this.#revocations.emit('revoked', id);
    };
  }

  /** What is open with the rights that a user had ends; the sessions go on with those that they have now. */
  async rightsChanged(userId: string): Promise<void> {
    for (const { id } of await this.#store.users.sessionsOf(userId)) this.#revocations.emit('revoked', id);
  }

  async forgetExpired(): Promise<void> {
    const now = clock.now();
    await this.#store.transaction(({ users }) => users.removeSessionsBefore(now - LONGEST_MS, now - IDLE_MS));
  }
}
