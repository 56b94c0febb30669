import type { Argument, Command, Option } from 'commander';

/** What a page says beside what its commands say of themselves. */
export interface Page {
  section: 1 | 8;
  /** What the program does when it is run, in whole sentences. */
  description?: string;
  /** Its commands have pages of their own: they are only listed. */
  isOverview?: boolean;
  /** The day that it is of, such as 2026-11-30. */
  date: string;
  /** Of the programs, such as `stowage 0.1.0`. */
  source: string;
  /** Options that every command has: they stand in one section. */
  common?: readonly Option[];
  /** Lines to type, by the command that they are of: `vol create`. */
  examples?: Readonly<Record<string, readonly string[]>>;
  environment?: readonly (readonly [string, string])[];
  exitStatuses?: readonly (readonly [number, string])[];
  files?: readonly (readonly [string, string])[];
  /** Other pages, such as `stowage(1)`. */
  seeAlso?: readonly string[];
}

/** Characters that roff(7) would print as others, which no shell takes when they are copied. */
const ESCAPES: Readonly<Record<string, string>> = {
  ...{ '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '~': '\\(ti', '^': '\\(ha' },
  ...{ '’': '\\(cq', '…': '...' },
};

/** Text that roff prints as it is; no line of it is taken for a request. */
const plain = (text: string): string =>
  text.replace(/[\\\-'`~^’…]/g, (character) => ESCAPES[character]!).replace(/^(?=\.)/gm, '\\&');

const bold = (text: string): string => `\\fB${plain(text)}\\fR`;

/** A term and what it means. */
const entry = (term: string, text: string): string => `.TP\n${term}\n${plain(text) || '\\&'}\n`;

const section = (title: string, text: string): string => (text === '' ? '' : `.SH ${title}\n${text}`);

const entries = (title: string, rows: readonly (readonly [string | number, string])[] = []): string =>
  section(title, rows.map(([term, text]) => entry(bold(String(term)), text)).join(''));

/** As typed: `stowage vol create`. */
function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

const argument = (each: Argument): string => {
  const name = `\\fI${plain(each.name())}\\fR${each.variadic ? ' ...' : ''}`;
  return each.required ? name : `[${name}]`;
};

const usage = (command: Command): string =>
  [bold(nameOf(command)), ...command.registeredArguments.map(argument)].join(' ');

/** Its commands, in their order. */
export const childrenOf = (command: Command): Command[] =>
  command
    .createHelp()
    .visibleCommands(command)
    .filter((each) => each.name() !== 'help');

/** Those below a command that do something, in their order; the command itself where there is none. */
function leavesOf(command: Command): Command[] {
  const below = childrenOf(command);
  return below.length === 0 ? [command] : below.flatMap(leavesOf);
}

function optionsOf(command: Command, common: readonly Option[]): string {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .filter(
      ({ long }) => long !== '--help' && long !== '--version' && !common.some((other) => other.long === long),
    )
    .map((option) => entry(bold(help.optionTerm(option)), help.optionDescription(option)))
    .join('');
}

/** Writes the manual page of a program, or of one of its commands with all that are below it, as man(7). */
export function manPage(command: Command, page: Page): string {
  const { common = [], examples = {}, seeAlso = [] } = page;
  const leaves = page.isOverview ? childrenOf(command) : leavesOf(command);
  const title = nameOf(command).replaceAll(' ', '-');
  const isOne = leaves[0] === command;
  const help = command.createHelp();
  const parts = isOne
    ? ''
    : leaves
        .map((leaf) =>
          page.isOverview
            ? entry(bold(leaf.name()), leaf.description())
            : `.SS ${usage(leaf)}\n${plain(leaf.description())}.\n${optionsOf(leaf, common)}`,
        )
        .join('');
  const typed = page.isOverview
    ? []
    : [command, ...leaves.filter((leaf) => leaf !== command)].flatMap(
        (each) => examples[nameOf(each).split(' ').slice(1).join(' ')] ?? [],
      );
  return [
    `.TH ${plain(title).toUpperCase()} ${page.section} ${page.date} "${page.source}" Stowage\n`,
    section('NAME', `${plain(title)} \\- ${plain(command.description())}\n`),
    section(
      'SYNOPSIS',
      isOne
        ? `${usage(command)} [options]\n`
        : `${bold(nameOf(command))} [options]${page.description ? `\n.br\n${bold(nameOf(command))} [options]` : ''} \\fIcommand\\fR\n`,
    ),
    section('DESCRIPTION', page.description ? `${plain(page.description)}\n` : ''),
    section('OPTIONS', optionsOf(command, isOne ? [] : common)),
    section('COMMANDS', parts),
    isOne
      ? ''
      : section(
          'OPTIONS OF ALL COMMANDS',
          common.map((each) => entry(bold(help.optionTerm(each)), help.optionDescription(each))).join(''),
        ),
    entries('EXIT STATUS', page.exitStatuses),
    entries('ENVIRONMENT', page.environment),
    entries('FILES', page.files),
    section(
      'EXAMPLES',
      typed.length === 0
        ? ''
        : `.nf\n${typed.map((line) => plain(`${nameOf(command).split(' ')[0]} ${line}`)).join('\n')}\n.fi\n`,
    ),
    section('SEE ALSO', seeAlso.length === 0 ? '' : `${seeAlso.map((each) => plain(each)).join(', ')}\n`),
  ].join('');
}
