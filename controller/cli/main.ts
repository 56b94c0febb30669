import { Command } from 'commander';
import { toStowageError } from '../../shared/util/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { auditCommand } from './audit.ts';
import { exitStatusOf } from './client.ts';
import { completionCommand } from './completion.ts';
import { domainCommand } from './domains.ts';
import { hostCommand } from './hosts.ts';
import { jobCommand } from './jobs.ts';
import { printable, useJson, wantsJson } from './output.ts';
import { poolCommand } from './pools.ts';
import { tokenCommand } from './tokens.ts';
import { volCommand } from './volumes.ts';
import { xmlCommand } from './xml.ts';

const USAGE = 2;

const program = new Command('stowage')
  .description('storage pools and volumes across a fleet of hosts')
  .version(VERSION)
  .option('--json', 'answers for programs')
  .showHelpAfterError()
  .exitOverride()
  .hook('preAction', (_program, action) => {
    if (action.optsWithGlobals().json) useJson();
  });
for (const command of [
  hostCommand(),
  poolCommand(),
  volCommand(),
  domainCommand(),
  jobCommand(),
  auditCommand(),
  tokenCommand(),
  xmlCommand(),
])
  program.addCommand(command);
program.addCommand(completionCommand(program));

/** `--json` and a usage error with status 2 everywhere, not only at the top. */
function prepare(command: Command): void {
  command.exitOverride();
  if (command !== program && !command.options.some((option) => option.long === '--json'))
    command.option('--json', 'answers for programs');
  for (const child of command.commands) prepare(child);
}
prepare(program);

process.on('SIGINT', () => process.exit(130));
// `stowage … | head` ends quietly.
process.stdout.on('error', () => process.exit(0));

try {
  await program.parseAsync();
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
    else process.stderr.write(`stowage: ${printable(known.message)} [${known.code}]\n`);
    process.exitCode = exitStatusOf(known);
  }
}
