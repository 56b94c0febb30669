import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { clock } from '../../shared/util/clock.ts';
import { cut, isStowageError, StowageError } from '../../shared/util/errors.ts';
import { secretFile } from './secret-file.ts';

const OUTPUT_LIMIT = 4 << 20;
/** Without any progress for so long a tool is ended: what it waits for does not come. */
const STALL_MS = 60_000;
const LOOK_MS = 2_000;
/** From SIGTERM to SIGKILL, and from SIGKILL to giving up on a process that the kernel does not let go. */
const PATIENCE_MS = 5_000;

export interface RunResult {
  status: number;
  stdout: string;
  /** The same, where it is no text. */
  stdoutBytes: Buffer;
  stderr: string;
}

export interface RunOptions {
  signal?: AbortSignal;
  /** Added to a minimal environment; nothing of the agent's own environment is passed on but PATH. */
  env?: Record<string, string>;
  /** What it reads; absent: nothing. */
  input?: string;
  /** What it reads, as it comes; instead of `input`. Throws `stream-cut` when that is cut, `stream-corrupt` for what comes after a good end. */
  stdin?: Readable;
  /** Where its output goes, as it comes: none of that is in the result. Ended once the tool has ended well, else left open. */
  stdout?: Writable;
  /** What it reads as the file /proc/self/fd/0, from memory and without a name; instead of `input`. */
  secret?: string;
  /** Directory that relative names start from. */
  cwd?: string;
  /** Bounds for a tool that reads what somebody else may have made. */
  limits?: { memoryBytes: number; cpuSeconds: number };
  /** Longest time without progress: no output, no CPU time, no bytes read or written. Default 60 s. */
  stallMs?: number;
}

/** What qemu-img may use for an image that nobody has looked at before. */
export const UNTRUSTED = { memoryBytes: 1 << 30, cpuSeconds: 30 };

/** Gathers at most {@link OUTPUT_LIMIT} bytes and reads on, so that a tool that says more does not block. */
class Output {
  readonly #parts: Buffer[] = [];
  receivedBytes = 0;

  constructor(stream: Readable) {
    stream.on('data', (part: Buffer) => {
      const room = OUTPUT_LIMIT - this.receivedBytes;
      if (room > 0) this.#parts.push(part.subarray(0, room));
      this.receivedBytes += part.length;
    });
    stream.on('error', () => undefined);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  toString(): string {
    return this.bytes.toString('utf8');
  }
}

/** Waits for the end of what a tool was given. Throws `stream-cut` when its sender says for too long that there is more. */
async function ended(fed: Promise<void>, ms: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = clock.after(ms, () =>
    reject(new StowageError('stream-cut', `the sender has not ended the stream for ${ms / 1000} s`)),
  );
  try {
    await Promise.race([fed, promise]);
  } finally {
    timer.stop();
  }
}

/** Settles when more can be written, or nothing any more. */
async function drained(to: Writable): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  try {
    await Promise.race([once(to, 'drain', { signal }), once(to, 'close', { signal })]);
  } catch {
    // Nobody reads it any more.
  } finally {
    over.abort();
  }
}

/**
 * Gives a tool what it reads, to the end of that. Throws `stream-corrupt` when something comes that the tool, which has ended, does not
 * want any more, `stream-cut` when it was cut.
 */
async function feed(from: Readable, to: Writable): Promise<void> {
  try {
    // It may be a request, which is still to be answered.
    for await (const piece of from.iterator({ destroyOnReturn: false })) {
      if (to.destroyed) throw new StowageError('stream-corrupt', 'the stream goes on behind its end');
      if (!to.write(piece)) await drained(to);
    }
  } catch (error) {
    const { message } = error as Error;
    throw isStowageError(error) ? error : new StowageError('stream-cut', `the stream was cut: ${message}`);
  } finally {
    to.end();
  }
}

/** What a process and its children have used so far: any number that changes while they get on. */
async function progressOf(pid: number, depth = 0): Promise<string> {
  const read = (file: string): Promise<string> => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '');
  const [stat, io, children] = await Promise.all([read('stat'), read('io'), read(`task/${pid}/children`)]);
  const below = depth < 4 ? children.trim().split(/\s+/).filter(Boolean).slice(0, 16) : [];
  const others = await Promise.all(below.map((child) => progressOf(Number(child), depth + 1)));
  // utime and stime come 14th and 15th; the name before them may hold spaces.
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return `${utime} ${stime} ${/rchar: \d+\nwchar: \d+/.exec(io)?.[0]} ${others.join()}`;
}

function kill(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    // The whole group: what the tool started does not outlive it.
    process.kill(-child.pid!, signal);
  } catch {
    // it has ended meanwhile
  }
}

/**
 * Runs a tool with an argument array, never a shell, in the C locale, and gives its exit status and the first 4 MiB of
 * each output. Throws `tool-missing` when it is not installed, `tool-stalled` when it made no progress for `stallMs`, the
 * reason of the signal when that ended it. When it throws, the tool has ended, or the kernel holds it for storage that does
 * not answer; then its end is not waited for longer than some seconds.
 */
export async function run(tool: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const { signal, limits, stallMs = STALL_MS } = options;
  signal?.throwIfAborted();
  const command = limits
    ? ['prlimit', `--as=${limits.memoryBytes}`, `--cpu=${limits.cpuSeconds}`, '--', tool, ...args]
    : [tool, ...args];
  await using secret = options.secret === undefined ? undefined : await secretFile(options.secret);
  const child = spawn(command[0]!, command.slice(1), {
    stdio: [
      secret?.fd ?? (options.input === undefined && !options.stdin ? 'ignore' : 'pipe'),
      'pipe',
      'pipe',
    ],
    detached: true,
    cwd: options.cwd,
    env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...options.env },
  });
  // Who does not read it to the end has enough of it.
  child.stdin?.on('error', () => undefined);
  const fed = options.stdin && feed(options.stdin, child.stdin!);
  fed?.catch(() => undefined);
  if (!fed) child.stdin?.end(options.input);
  const passedOn = options.stdout && pipeline(child.stdout!, options.stdout, { end: false });
  // What becomes of both is asked for once the tool has ended.
  passedOn?.catch(() => undefined);
  const [stdout, stderr] = [
    options.stdout ? undefined : new Output(child.stdout!),
    new Output(child.stderr!),
  ];
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once('close', (status) => resolve(status ?? -1));
  child.once('error', (error: NodeJS.ErrnoException) =>
    reject(
      error.code === 'ENOENT'
        ? new StowageError('tool-missing', `${tool}: not found on this host`, { cause: error })
        : error,
    ),
  );

  let reason: unknown;
  const end = (why: unknown): void => {
    if (reason !== undefined) return;
    reason = why;
    kill(child, 'SIGTERM');
    clock.after(PATIENCE_MS, () => child.exitCode ?? child.signalCode ?? kill(child, 'SIGKILL'), false);
    clock.after(2 * PATIENCE_MS, () => reject(why), false);
  };
  const abort = (): void => end(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  let before = '';
  let since = clock.monotonicMs();
  const watch = clock.every(LOOK_MS, () => {
    void progressOf(child.pid!).then((used) => {
      const now = `${stdout?.receivedBytes} ${stderr.receivedBytes} ${used}`;
      if (now !== before) since = clock.monotonicMs();
      else if (clock.monotonicMs() - since >= stallMs)
        end(
          new StowageError('tool-stalled', `${tool} made no progress for ${stallMs / 1000} s and was ended`),
        );
      before = now;
    });
  });
  try {
    const status = await promise;
    watch.stop();
    if (reason !== undefined) throw reason;
    // The shell's and prlimit's word for what is not there.
    if (limits && status === 127) throw new StowageError('tool-missing', `${tool}: not found on this host`);
    // A tool may know the end of a stream before its sender has said it.
    if (fed && (status === 0 || child.stdin?.writableEnded)) await ended(fed, stallMs);
    if (passedOn && status === 0) {
      await passedOn;
      options.stdout?.end();
    }
    return {
      status,
      stdout: stdout?.toString() ?? '',
      stdoutBytes: stdout?.bytes ?? Buffer.alloc(0),
      stderr: stderr.toString(),
    };
  } finally {
    watch.stop();
    signal?.removeEventListener('abort', abort);
  }
}

/** What a tool said, in one line of bounded length. */
export function wordsOf({ stdout, stderr }: Pick<RunResult, 'stdout' | 'stderr'>): string {
  const lines = (stderr.trim() || stdout.trim()).split('\n').map((line) => line.trim());
  return cut(lines.filter(Boolean).join('; '), 1000);
}

/** As {@link run}, but an exit status other than 0 is a `tool-failed` error that quotes the tool. */
export async function runOk(tool: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await run(tool, args, options);
  if (result.status === 0) return result;
  const words = wordsOf(result);
  throw new StowageError(
    /no space left on device|insufficient free space|out of space/i.test(words) ? 'no-space' : 'tool-failed',
    `${tool} ${args[0] ?? ''} failed with status ${result.status}: ${words}`,
  );
}
