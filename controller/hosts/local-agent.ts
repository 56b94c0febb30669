import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { clock, sleep } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';

const AGENT = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const stream = createConnection(socket);
    stream.once('connect', () => {
      stream.destroy();
      resolve(true);
    });
    stream.once('error', () => resolve(false));
  });
}

/** The agent of the controller's own machine, as a child process that is started again when it ends. */
export class LocalAgent {
  readonly socket: string;
  readonly #directory: string;
  #child: ChildProcess | undefined;
  #stopping = false;

  constructor(directory: string) {
    this.#directory = directory;
    this.socket = join(directory, 'agent.sock');
  }

  /** Settles when it answers. One that a killed controller left behind goes on being used. */
  async start(): Promise<void> {
    if (await answers(this.socket)) return;
    const child = spawn(process.execPath, [AGENT, 'serve', '--state', this.#directory], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.#child = child;
    child.once('exit', () => {
      if (!this.#stopping) clock.after(1000, () => void this.start().catch(() => undefined));
    });
    for (let attempt = 0; attempt < 150; attempt++) {
      if (await answers(this.socket)) return;
      if (child.exitCode !== null) break;
      await sleep(100);
    }
    throw new StowageError('agent-start', 'the local agent does not start; its words are above');
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    if (!this.#child || this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await Promise.race([ended, sleep(3000)]);
  }
}
