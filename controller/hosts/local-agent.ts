import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { clock, sleep } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';

const AGAIN_MS = 1000;
const ANSWER_MS = 5000;
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

/** The process of the agent that answers on a socket; undefined where it does not say. */
function pidOf(socketPath: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const asked = get({ socketPath, path: '/v1/info', timeout: ANSWER_MS }, (response) => {
      json(response).then(
        (info) => resolve(z.looseObject({ pid: z.number().int().positive() }).safeParse(info).data?.pid),
        () => resolve(undefined),
      );
    });
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve(undefined));
  });
}

/** The agent of the controller's own machine, a process that is started again when it ends. */
export class LocalAgent {
  readonly socket: string;
  readonly #directory: string;
  #child: ChildProcess | undefined;
  #stopping = false;
  /** The process of one that was there before us. */
  #adopted: number | undefined;
  #watch: Socket | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.socket = join(directory, 'agent.sock');
  }

  /** Settles when it answers. One that a killed controller left behind goes on being used, watched and stopped like our own. */
  async start(): Promise<void> {
    if (await answers(this.socket)) return this.#adopt();
    const child = spawn(process.execPath, [AGENT, 'serve', '--state', this.#directory], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.#child = child;
    child.once('exit', () => {
      this.#again();
    });
    for (let attempt = 0; attempt < 150; attempt++) {
      if (await answers(this.socket)) return;
      if (child.exitCode !== null) break;
      await sleep(100);
    }
    throw new StowageError('agent-start', 'the local agent does not start; its words are above');
  }

  #again(): void {
    if (!this.#stopping) clock.after(AGAIN_MS, () => void this.start().catch(() => this.#again()));
  }

  /** Its server ends a connection on which nothing is asked, now and then: then it is looked at again. */
  async #adopt(): Promise<void> {
    this.#adopted = await pidOf(this.socket);
    const watch = createConnection(this.socket);
    this.#watch = watch;
    watch.on('error', () => undefined);
    watch.once('close', () => this.#again());
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#watch?.destroy();
    if (this.#adopted !== undefined && !this.#child) {
      process.kill(this.#adopted, 'SIGTERM');
      for (let attempt = 0; attempt < 30 && (await answers(this.socket)); attempt++) await sleep(100);
      return;
    }
    if (!this.#child || this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await Promise.race([ended, sleep(3000)]);
  }
}
