import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { FailedAttempts, MOST_FAILURES } from './failed-attempts.ts';
import { networkOf } from './network.ts';
import type { Principal } from './principal.ts';
import type { Sessions } from './sessions.ts';
import type { Tokens } from './tokens.ts';

/** By what somebody is let in: the token of a program, or else the session of a browser. */
export interface Credentials {
  /** The `Authorization` header. */
  authorization?: string;
  /** What a browser keeps of its session. */
  session?: string;
}

/** Where every door asks who somebody is. */
export class Gate {
  readonly #tokens: Tokens;
  readonly #sessions: Sessions;
  readonly #audit: AuditTrail;
  readonly #attempts = new FailedAttempts();

  constructor(tokens: Tokens, sessions: Sessions, audit: AuditTrail) {
    this.#tokens = tokens;
    this.#sessions = sessions;
    this.#audit = audit;
  }

  /** Who somebody is. Throws `unauthenticated`, which is not on record. With `isUse` false a session is only looked at, and not kept from ending. */
  identify({ authorization, session }: Credentials, isUse = true): Promise<Principal> {
    return authorization === undefined && session !== undefined
      ? this.#sessions.authenticate(session, isUse)
      : this.#tokens.authenticate(authorization);
  }

  /**
   * As {@link identify}. Throws `unauthenticated`, which is on record: of many failures that come from one
   * place in a minute only that they came, and those are `rate-limited`.
   */
  async authenticate(credentials: Credentials, source: string, action: string): Promise<Principal> {
    try {
      return await this.identify(credentials);
    } catch (error) {
      const known = toStowageError(error);
      if (known.code !== 'unauthenticated') throw known;
      // A browser that was left open over night is no attack.
      if (credentials.authorization === undefined && credentials.session !== undefined) throw known;
      const { count, tooMany } = this.#attempts.note(networkOf(source));
      const last =
        count === MOST_FAILURES ? '; what else comes from there in this minute is not recorded' : '';
      if (tooMany)
        throw new StowageError(
          'rate-limited',
          'too many requests without a valid token; try again in a minute',
        );
      const detail = `${known.message}${last}`;
      await this.#audit.append({ actor: 'nobody', source, action, target: '', outcome: 'refused', detail });
      throw known;
    }
  }
}
