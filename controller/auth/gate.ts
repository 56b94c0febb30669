import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { FailedAttempts, MOST_FAILURES } from './failed-attempts.ts';
import type { Principal } from './principal.ts';
import type { Tokens } from './tokens.ts';

/** Where every door asks who somebody is. */
export class Gate {
  readonly #tokens: Tokens;
  readonly #audit: AuditTrail;
  readonly #attempts = new FailedAttempts();

  constructor(tokens: Tokens, audit: AuditTrail) {
    this.#tokens = tokens;
    this.#audit = audit;
  }

  /**
   * Who an `Authorization` header stands for. Throws `unauthenticated`, which is on record: of many failures that come from one
   * place in a minute only that they came, and those are `rate-limited`.
   */
  async authenticate(header: string | undefined, source: string, action: string): Promise<Principal> {
    try {
      return await this.#tokens.authenticate(header);
    } catch (error) {
      const known = toStowageError(error);
      if (known.code !== 'unauthenticated') throw known;
      const { count, tooMany } = this.#attempts.note(source);
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
