import { type ErrorCode, type StowageError, toStowageError } from '../../shared/util/errors.ts';
import { exitStatusOf } from './client.ts';
import { endInterrupted } from './interrupt.ts';
import { printable, wantsJson } from './output.ts';
import { lastOptions, makeProgram } from './program.ts';

const USAGE = 2;

/** Which option lets it be done all the same. */
const HINTS: Partial<Record<ErrorCode, string>> = {
  'shrink-refused': '--shrink',
  'volume-has-snapshots': '--delete-snapshots',
  'volume-used': '--allow-used',
  'secret-in-use': '--allow-used',
};

function hintOf({ code }: StowageError): string {
  const hint = HINTS[code];
  // Who has given it already is not helped by it.
  const helps = hint !== undefined && lastOptions().includes(hint) && !process.argv.includes(hint);
  return helps ? ` (${hint})` : '';
}

/** Proxmox VE's tools take their long options behind one dash, too. */
function dashed(argv: readonly string[]): string[] {
  return argv[2] === 'pvesm' ? argv.map((word) => word.replace(/^-(?=[a-z]{2})/, '--')) : [...argv];
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, endInterrupted);
// `stowage … | head` ends quietly.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`stowage: standard output: ${error.message} [io-error]\n`);
  process.exit(1);
});

try {
  await makeProgram().parseAsync(dashed(process.argv));
} catch (error) {
  const code = (error as { code?: string }).code ?? '';
  if (code.startsWith('commander.')) {
    process.exitCode = ['commander.help', 'commander.helpDisplayed', 'commander.version'].includes(code)
      ? 0
      : USAGE;
  } else {
    const known = toStowageError(error);
    if (wantsJson())
      process.stderr.write(`${JSON.stringify({ code: known.code, message: known.message })}\n`);
    else process.stderr.write(`stowage: ${printable(known.message)}${hintOf(known)} [${known.code}]\n`);
    process.exitCode = exitStatusOf(known);
  }
}
