import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { StowageError } from '../../shared/util/errors.ts';

const OUTPUT_LIMIT = 4 << 20;

export interface RunResult {
  status: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  signal?: AbortSignal;
  /** Added to a minimal environment; nothing of the agent's own environment is passed on but PATH. */
  env?: Record<string, string>;
}

async function collect(stream: NodeJS.ReadableStream): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += (chunk as Buffer).length;
    if (size <= OUTPUT_LIMIT) chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/**
 * Runs a tool with an argument array (never a shell) and gives its exit status and output, each at most 4 MiB.
 * Throws `tool-missing` when it is not installed, `cancelled` when the signal ended it.
 */
export async function run(tool: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn(tool, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    signal: options.signal,
    env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...options.env },
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  closed.catch(() => undefined);
  try {
    const [stdout, stderr, [status]] = await Promise.all([
      collect(child.stdout),
      collect(child.stderr),
      closed,
    ]);
    return { status: status ?? -1, stdout, stderr };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new StowageError('tool-missing', `${tool}: not found on this host`, { cause: error });
    }
    throw error;
  }
}

/** As {@link run}, but an exit status other than 0 is a `tool-failed` error that quotes the tool. */
export async function runOk(tool: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await run(tool, args, options);
  if (result.status !== 0) {
    const words = (result.stderr.trim() || result.stdout.trim()).slice(0, 1000);
    throw new StowageError(
      'tool-failed',
      `${tool} ${args[0] ?? ''} failed with status ${result.status}: ${words}`,
    );
  }
  return result;
}
