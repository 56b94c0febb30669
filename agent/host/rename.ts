import { StowageError } from '../../shared/util/errors.ts';
import { libc, libcMissingReason, systemError } from './libc.ts';

const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;

function rename(from: string, to: string, flags: number): void {
  if (!libc) throw new StowageError('tool-missing', `the C library cannot be called: ${libcMissingReason}`);
  if (libc.renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) !== 0) throw systemError(libc.errno(), 'renameat2');
}

/** Gives what is at one path another one, in one step. Throws with the code `EEXIST` where something is there. */
export const renameToNew = (from: string, to: string): void => rename(from, to, RENAME_NOREPLACE);

/** What is at each of two paths is at the other one afterwards, in one step. */
export const exchange = (one: string, other: string): void => rename(one, other, RENAME_EXCHANGE);
