import { toStowageError } from '../../shared/util/errors.ts';
import { printable } from './output.ts';

/**
 * Does something with each, one after the other, also when one of them fails. Gives those with which it was done, and the first
 * error; the others go to standard error.
 */
export async function tryAll<T>(
  all: readonly T[],
  work: (one: T) => Promise<unknown>,
): Promise<{ done: T[]; failure: unknown }> {
  const done: T[] = [];
  let failure: unknown;
  for (const one of all)
    try {
      await work(one);
      done.push(one);
    } catch (error) {
      if (failure !== undefined)
        process.stderr.write(`stowage: ${printable(toStowageError(error).message)}\n`);
      failure ??= error;
    }
  return { done, failure };
}
