import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { Option } from 'commander';
import { StowageError } from '../../shared/util/errors.ts';
import { printable } from './output.ts';

export interface Confirmation {
  yes?: boolean;
}

export const yesOption = (): Option => new Option('-y, --yes', 'do not ask');

/**
 * Asks before something is lost, where somebody is there to ask: on a terminal. Throws `cancelled` unless told to go on;
 * where nobody is there it throws `unasked`, or goes on without one.
 */
export async function confirm(
  question: string,
  { yes }: Confirmation,
  unasked?: StowageError,
): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) {
    if (unasked) throw unasked;
    return;
  }
  // Standard error may be a file: the question goes to who types.
  const output = process.stderr.isTTY ? process.stderr : createWriteStream('/dev/tty');
  const terminal = createInterface({ input: process.stdin, output });
  // Ctrl-D, or Ctrl-C, is no yes.
  const closed = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
  const answer = await Promise.race([terminal.question(`${printable(question)} [y/N] `), closed]);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new StowageError('cancelled', 'nothing was changed');
}
