import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JobDetails } from '../../shared/protocol/api.ts';
import { freePort, type TestHost } from './hosts.ts';

export interface CliResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. */
export async function execute(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<CliResult> {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status: status ?? -1, stdout, stderr };
}

/** A test host is some ten times as slow. */
const PATIENCE_MS = process.env.STOWAGE_TEST_HOST === undefined ? 60_000 : 300_000;

export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await sleep(50);
  }
}

/** How the command is run: as users have it, where the run of all tests has made it, and else from its source. */
const COMMAND = process.env.STOWAGE_TEST_COMMAND
  ? [process.env.STOWAGE_TEST_COMMAND]
  : [process.execPath, 'controller/cli/stowage.ts'];

/** A real controller in a process of its own, with its CLI, and the means to kill it. */
export class TestController implements AsyncDisposable {
  readonly directory: string;
  url = '';
  token = '';
  /** Where the first administrator begins. */
  link = '';
  #process: ChildProcess | undefined;
  #port = 0;
  readonly #args: string[];
  readonly #env: NodeJS.ProcessEnv;
  /** Whether it makes the command `stowage` in its directory, which takes a moment at each start. */
  readonly #hasCommand: boolean;
  log = '';

  private constructor(directory: string, args: string[], env: NodeJS.ProcessEnv, hasCommand: boolean) {
    this.directory = directory;
    this.#args = args;
    this.#env = env;
    this.#hasCommand = hasCommand;
  }

  static async start(
    directory: string,
    args = ['--no-local-agent'],
    env: NodeJS.ProcessEnv = {},
    hasCommand = false,
  ): Promise<TestController> {
    const controller = new TestController(directory, args, env, hasCommand);
    controller.#port = await freePort();
    await controller.restart();
    return controller;
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  async restart(): Promise<void> {
    const child = spawn(
      process.execPath,
      [
        'controller/main.ts',
        ...['--data', this.directory, '--listen', `127.0.0.1:${this.#port}`],
        ...(this.#hasCommand ? [] : ['--no-command']),
        ...this.#args,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...this.#env } },
    );
    this.#process = child;
    let ready = false;
    child.stdout.on('data', (data) => {
      if (String(data).includes('is running')) ready = true;
    });
    child.stderr.on('data', (data) => {
      this.log += data;
    });
    await until(`the controller starts: ${this.log}`, () => {
      if (child.exitCode !== null) throw new Error(`the controller ended: ${this.log}`);
      return ready;
    });
    const client = JSON.parse(readFileSync(join(this.directory, 'client.json'), 'utf8')) as {
      url: string;
      token: string;
    };
    const first = join(this.directory, 'first-link');
    if (existsSync(first)) this.link = readFileSync(first, 'utf8').trim();
    this.url = client.url;
    this.token = client.token;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  cli(...args: string[]): Promise<CliResult> {
    return this.cliIn({}, ...args);
  }

  /** A command that must fail with an error of this code; gives what it says. */
  async cliRefused(code: string, ...args: string[]): Promise<string> {
    const { status, stderr } = await this.cli(...args);
    if (status === 0 || !stderr.includes(`[${code}]`))
      throw new Error(`stowage ${args.join(' ')}: not refused with ${code}, but ${status}: ${stderr}`);
    return stderr;
  }

  cliAs(token: string, ...args: string[]): Promise<CliResult> {
    return this.cliIn({ STOWAGE_TOKEN: token }, ...args);
  }

  /** With variables of the environment other than those of the test. */
  cliIn(env: NodeJS.ProcessEnv, ...args: string[]): Promise<CliResult> {
    return execute(COMMAND[0]!, [...COMMAND.slice(1), ...args], {
      ...process.env,
      STOWAGE_URL: this.url,
      STOWAGE_TOKEN: this.token,
      ...env,
    });
  }

  /** A command that goes on, with its standard input. */
  spawnCli(...args: string[]): ChildProcessByStdio<Writable, null, null> {
    return spawn(COMMAND[0]!, [...COMMAND.slice(1), ...args], {
      stdio: ['pipe', 'ignore', 'ignore'],
      env: { ...process.env, STOWAGE_URL: this.url, STOWAGE_TOKEN: this.token },
    });
  }

  /** Standard output of a command that must succeed. */
  async cliOk(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.cli(...args);
    if (status !== 0)
      throw new Error(
        `stowage ${args.join(' ')}: status ${status}\n${stdout}${stderr}\n${this.log.slice(-2000)}`,
      );
    return stdout;
  }

  fetch(path: string, init: RequestInit & { token?: string } = {}): Promise<Response> {
    const { token = this.token, ...rest } = init;
    return fetch(`${this.url}/api/v1${path}`, {
      ...rest,
      headers: { authorization: `Bearer ${token}`, ...rest.headers },
    });
  }

  async api<T>(path: string, json?: unknown, method = json === undefined ? 'GET' : 'POST'): Promise<T> {
    const response = await this.fetch(path, {
      method,
      body: json === undefined ? undefined : JSON.stringify(json),
      headers: json === undefined ? {} : { 'content-type': 'application/json' },
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }

  async addHost(host: TestHost): Promise<void> {
    await this.cliOk(
      'host',
      'add',
      host.name,
      `ssh://${host.user}@${host.address}:${host.port}`,
      '--identity',
      host.identity,
      '--fingerprint',
      host.fingerprint,
    );
  }

  /** A pool `p` in the host's own directory, or at `target`. */
  async addPool(host: TestHost, target = join(host.directory, 'pool'), name = 'p'): Promise<string> {
    await this.cliOk('pool', 'create', `${host.name}/${name}`, '--type', 'dir', '--target', target);
    return target;
  }

  job(id: number): Promise<JobDetails> {
    return this.api<JobDetails>(`/jobs/${id}`);
  }

  /** Waits for the end of a job, also over the controller's own absence. */
  async ended(id: number, timeoutMs = 120_000): Promise<JobDetails> {
    return until(
      `job ${id} ends`,
      async () => {
        const job = await this.job(id).catch(() => undefined);
        return job && ['done', 'failed', 'cancelled'].includes(job.state) ? job : undefined;
      },
      timeoutMs,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill('SIGTERM');
  }
}

/** What lies in a pool's directory: volumes, and the transfers that were begun there. */
export async function poolContents(target: string): Promise<{ volumes: string[]; transfers: string[] }> {
  const { readdir } = await import('node:fs/promises');
  const volumes = (await readdir(target)).filter((name) => !name.startsWith('.')).sort();
  const transfers = existsSync(join(target, '.stowage/stages'))
    ? await readdir(join(target, '.stowage/stages'))
    : [];
  return { volumes, transfers };
}
