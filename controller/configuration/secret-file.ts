import { readFileSync } from 'node:fs';
import { StowageError } from '../../shared/util/errors.ts';

/** What a file holds, without blanks around it. Throws `invalid-argument` with the path, also where nothing is in it. */
export function secretIn(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new StowageError('invalid-argument', `a secret cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (text === '') throw new StowageError('invalid-argument', `${path}: there is no secret in it`);
  return text;
}
