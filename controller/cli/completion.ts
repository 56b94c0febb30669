import { Command } from 'commander';

/** The words that may follow each command, read off the commands themselves. */
function words(command: Command, path: string[] = []): Map<string, string[]> {
  const options = command.options.map((option) => option.long ?? '').filter(Boolean);
  const all = new Map([[path.join(' '), [...command.commands.map((child) => child.name()), ...options]]]);
  for (const child of command.commands)
    for (const [key, value] of words(child, [...path, child.name()])) all.set(key, value);
  return all;
}

/** A bash completion script; zsh reads it through `bashcompinit`. */
export function completionScript(program: Command): string {
  const cases = [...words(program)].map(([path, list]) => `    "${path}") words="${list.join(' ')}" ;;`);
  return `# source <(stowage completion)
_stowage() {
  local path="" word words
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  while :; do
    case "$path" in
${cases.join('\n')}
    *) case "$path" in *" "*) path="\${path% *}"; continue ;; *) words="" ;; esac ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _stowage stowage`;
}

export function completionCommand(program: Command): Command {
  return new Command('completion')
    .description('print a completion script for bash and zsh')
    .action(() => console.log(completionScript(program)));
}
