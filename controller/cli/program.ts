import { Command } from 'commander';
import { StowageError } from '../../shared/util/errors.ts';
import { VERSION } from '../../shared/version.ts';
import { auditCommand } from './audit.ts';
import { completeCommand, completionCommand } from './completion.ts';
import { domainCommand } from './domains.ts';
import { addHelp } from './help.ts';
import { hostCommand } from './hosts.ts';
import { imageCommand } from './images.ts';
import { jobCommand } from './jobs.ts';
import { outputOptions, useOutput } from './output.ts';
import { poolCommand } from './pools.ts';
import { pvesmCommand } from './pvesm/index.ts';
import { secretCommand } from './secrets.ts';
import { statusCommand } from './status.ts';
import { tokenCommand } from './tokens.ts';
import { trashCommand } from './trash.ts';
import { userCommand } from './users.ts';
import { volCommand } from './volumes.ts';
import { xmlCommand } from './xml.ts';

/** The options that the command which ran last can be given. */
let options: string[] = [];

export const lastOptions = (): readonly string[] => options;

/** All commands, each with the options of answers. */
export function makeProgram(): Command {
  const program = new Command('stowage')
    .description('storage pools and volumes across a fleet of hosts')
    .version(VERSION)
    .showHelpAfterError('(--help tells more)')
    .hook('preAction', (_program, action) => {
      const given = action.optsWithGlobals();
      useOutput(given);
      options = action.options.flatMap(({ long }) => long ?? []);
      const lists = action.options.some(({ long }) => long === '--columns');
      if (['csv', 'name'].includes(given.output) && !lists)
        throw new StowageError('invalid-argument', `-o ${given.output} is for lists`);
    });
  for (const command of [
    statusCommand(),
    hostCommand(),
    poolCommand(),
    volCommand(),
    trashCommand(),
    imageCommand(),
    domainCommand(),
    jobCommand(),
    auditCommand(),
    tokenCommand(),
    userCommand(),
    secretCommand(),
    pvesmCommand(),
    xmlCommand(),
    completionCommand(),
  ])
    program.addCommand(command);
  program.addCommand(completeCommand(program), { hidden: true });

  prepare(program);
  addHelp(program);
  return program;
}

/** The options of answers, and a usage error with status 2, everywhere and not only at the top. */
function prepare(command: Command): void {
  command.exitOverride();
  for (const option of outputOptions()) command.addOption(option);
  for (const child of command.commands) prepare(child);
}
