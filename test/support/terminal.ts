import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { CliResult } from './controller.ts';

export interface Typing {
  /** What must have been shown, or must have happened, before anything is typed. */
  when: RegExp | Promise<unknown>;
  keys: string;
}

/** Runs a command at a terminal of its own. What is typed is typed once; what was shown is given as `stdout`. */
export async function atTerminal(
  command: string,
  { when, keys }: Typing,
  env: NodeJS.ProcessEnv,
): Promise<CliResult> {
  const child = spawn('script', ['-qec', command, '/dev/null'], { env });
  let shown = '';
  let isTyped = false;
  const type = (): void => {
    if (!isTyped) child.stdin.write(keys);
    isTyped = true;
  };
  if (when instanceof Promise) when.then(type, () => undefined);
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      shown += String(data);
      if (when instanceof RegExp && when.test(shown)) type();
    });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status: status ?? -1, stdout: shown, stderr: '' };
}
