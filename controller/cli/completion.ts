import { Argument, Command } from 'commander';
import { callJson } from './client.ts';
import { print } from './output.ts';

/** Names that are offered at once. */
const MOST = 200;
/** Names that are looked through: what comes behind them is not offered. */
const MOST_OF_ALL = 10_000;
/** Whoever waits for a suggestion does not wait long. */
const PATIENCE_MS = 2000;

/** Only these characters: names come from other people's disks, and what is completed becomes part of a command. */
const SAFE = /^[\p{L}\p{N}_./+-]+$/u;

/** What each shell reads at its start to complete the command. */
export const SHELLS = {
  bash: `# source <(stowage completion bash)
_stowage() {
  local IFS=$'\\n'
  COMPREPLY=($(stowage complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  # A name that goes on behind its slash is followed by no space.
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
complete -o default -F _stowage stowage`,
  zsh: `#compdef stowage
# source <(stowage completion zsh), behind compinit
_stowage() {
  local -a found open
  found=("\${(@f)$(stowage complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(\${found:#})
  open=(\${(M)found:#*/})
  found=(\${found:#*/})
  (( \${#open} )) && compadd -S '' -a open
  (( \${#found} )) && compadd -a found
  (( \${#open} + \${#found} )) || _files
}
compdef _stowage stowage`,
  fish: `# stowage completion fish | source
complete -c stowage -a '(stowage complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
};
type Shell = keyof typeof SHELLS;

async function ask<T>(path: string): Promise<T> {
  return callJson<T>(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
}

const hosts = async (): Promise<string[]> =>
  (await ask<{ name: string }[]>(`/hosts?limit=${MOST_OF_ALL}`)).map(({ name }) => name);

async function pools(): Promise<string[]> {
  const all = await ask<{ host: string; name: string }[]>(`/pools?limit=${MOST_OF_ALL}`);
  return all.map(({ host, name }) => `${host}/${name}`);
}

/** Pools as long as no pool is typed, then those volumes of it that begin as typed. */
async function volumes(typed: string): Promise<string[]> {
  const [host, pool, name] = typed.split('/');
  if (name === undefined) return (await pools()).map((each) => `${each}/`);
  const query = new URLSearchParams({ host: host!, pool: pool!, limit: String(MOST), after: typed });
  const found = await ask<{ name: string }[]>(`/volumes?${query}`);
  // What comes after the typed name is not that name itself.
  const exact = new URLSearchParams({ host: host!, pool: pool!, name });
  const same = name === '' ? [] : await ask<{ name: string }[]>(`/volumes?${exact}`);
  return [...same, ...found].map((volume) => `${host}/${pool}/${volume.name}`);
}

const users = async (): Promise<string[]> =>
  (await ask<{ name: string }[]>('/users')).map(({ name }) => name);
const invitations = async (): Promise<string[]> =>
  (await ask<{ name?: string }[]>('/open-invitations')).flatMap(({ name }) => name ?? []);
const tokens = async (): Promise<string[]> =>
  (await ask<{ name: string }[]>('/tokens')).map(({ name }) => name);

async function domains(): Promise<string[]> {
  const all = await ask<{ host: string; name: string }[]>(`/domains?limit=${MOST_OF_ALL}`);
  return all.map(({ host, name }) => `${host}/${name}`);
}

async function snapshots(volume: string | undefined): Promise<string[]> {
  const [host, pool, name] = (volume ?? '').split('/').map(encodeURIComponent);
  const path = `/hosts/${host}/pools/${pool}/volumes/${name}/snapshots`;
  return (await ask<{ id: string }[]>(path)).map(({ id }) => id);
}

/** What an argument of this name may be. */
function named(argument: Argument, typed: string, before: readonly string[]): Promise<string[]> | string[] {
  if (argument.argChoices) return argument.argChoices;
  switch (argument.name()) {
    case 'host':
      return hosts();
    case 'host/pool':
    case 'host/pool[/vol]':
      return pools();
    case 'host[/pool]':
      return Promise.all([hosts(), pools()]).then((all) => all.flat());
    case 'host/pool/vol':
      return volumes(typed);
    case 'host/domain':
      return domains();
    case 'snapshot':
      return snapshots(before.at(-1));
    case 'job':
      return ask<{ id: number }[]>('/jobs').then((all) => all.map(({ id }) => String(id)));
    case 'user':
      return users();
    case 'invitation':
      return invitations();
    case 'token':
      return tokens();
    default:
      return [];
  }
}

/** Values of an option, where they are asked of the controller. */
async function valuesOf(option: string | undefined, positional: readonly string[]): Promise<string[]> {
  switch (option) {
    case '--host':
      return hosts();
    case '--by':
      return tokens();
    case '--snapshot':
      return snapshots(positional[0]);
    default:
      return [];
  }
}

/** What the last word may become, read off the commands themselves and asked of the controller. */
async function candidates(program: Command, words: readonly string[]): Promise<string[]> {
  const typed = words.at(-1) ?? '';
  let command = program;
  const positional: string[] = [];
  for (let index = 0; index < words.length - 1; index++) {
    const word = words[index]!;
    if (word.startsWith('-')) {
      const option = command.options.find(({ long, short }) => word === long || word === short);
      if (!option?.required) continue;
      // The last word is its value.
      if (++index === words.length - 1) return option.argChoices ?? valuesOf(option.long, positional);
      continue;
    }
    const child = command.commands.find((each) => each.name() === word);
    if (child && positional.length === 0) command = child;
    else positional.push(word);
  }
  if (typed.startsWith('-'))
    return [...command.options, ...program.options].flatMap(({ long }) => long ?? []);
  const argument = command.registeredArguments[positional.length];
  const names = command.commands.map((child) => child.name()).filter((name) => name !== 'complete');
  return argument ? [...names, ...(await named(argument, typed, positional))] : names;
}

export function completionCommand(): Command {
  return new Command('completion')
    .description(
      'print a completion script; hosts, pools, volumes, jobs and choices are asked of the controller',
    )
    .addArgument(new Argument('[shell]').choices(Object.keys(SHELLS)).default('bash'))
    .action((shell: Shell) => print(SHELLS[shell]));
}

/** What the completion scripts ask: one candidate a line, or nothing. */
export function completeCommand(program: Command): Command {
  return new Command('complete')
    .description('what the last word may become')
    .argument('[words...]')
    .action(async (words: string[]) => {
      const typed = words.at(-1) ?? '';
      const all = await candidates(program, words).catch(() => []);
      const fitting = new Set(all.filter((word) => word.startsWith(typed) && SAFE.test(word)));
      for (const word of [...fitting].slice(0, MOST)) process.stdout.write(`${word}\n`);
    });
}
