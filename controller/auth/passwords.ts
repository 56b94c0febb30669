import { hash, verify } from '@node-rs/argon2';
import pLimit from 'p-limit';
import { StowageError } from '../../shared/util/errors.ts';

const LEAST = 12;
const MOST = 256;
/** argon2id (the library's default) as OWASP's first choice: 19 MiB, two passes, some 25 ms. */
const COST = { memoryCost: 19 * 1024, timeCost: 2, parallelism: 1 };
/** Each takes its memory and a core meanwhile: many at once would be an attack. */
const turns = pLimit(2);
/** Longer nobody waits who is no attacker: a second or so. */
const MOST_WAITING = 50;

/** Throws `rate-limited` where too many are waiting. */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (turns.pendingCount >= MOST_WAITING)
    throw new StowageError('rate-limited', 'too many sign in at this moment; try again in a few seconds');
  return turns(work);
}

let dummy: Promise<string> | undefined;

/** Hash of no password, verified where a user has none, so that the answer takes as long. Made outside of the turns: it is never refused. */
function dummyHash(): Promise<string> {
  dummy ??= hash('of nobody at all', COST).catch((error) => {
    dummy = undefined;
    throw error;
  });
  return dummy;
}

/** Throws `invalid-argument` for one that is too easy to guess. */
export function checkPassword(password: string, name: string): void {
  if ([...password].length < LEAST)
    throw new StowageError('invalid-argument', `a password must have at least ${LEAST} characters`);
  if (password.length > MOST)
    throw new StowageError('invalid-argument', `a password must have at most ${MOST} characters`);
  const tooEasy = (why: string): StowageError =>
    new StowageError('invalid-argument', `this password is too easy to guess: ${why}`);
  if (new Set(password).size < 5) throw tooEasy('it repeats few characters');
  if (name.length > 2 && password.toLowerCase().includes(name.toLowerCase()))
    throw tooEasy('your name is in it');
}

export const hashPassword = async (password: string): Promise<string> => inTurn(() => hash(password, COST));

/** In the same time whether there is a password or not. */
export async function isPassword(password: string, hashed: string | undefined): Promise<boolean> {
  if (password.length > MOST) return false;
  const against = hashed ?? (await dummyHash());
  const matches = await inTurn(() => verify(against, password));
  return matches && hashed !== undefined;
}
