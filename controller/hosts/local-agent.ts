import { spawn } from 'node:child_process';
import { request } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { clock, sleep } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';

const AGAIN_MS = 1000;
const ANSWER_MS = 5000;
const STOP_MS = 4000;
/** On a busy machine: elsewhere it takes a second. */
const START_MS = 60_000;
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

/** Asks the agent that answers on a socket to end. */
function shutDown(socketPath: string): Promise<void> {
  return new Promise((resolve) => {
    const asked = request(
      { socketPath, path: '/v1/shutdown', method: 'POST', timeout: ANSWER_MS },
      (response) => {
        response.resume();
        resolve();
      },
    );
    asked.once('timeout', () => asked.destroy());
    asked.once('error', () => resolve());
    asked.end();
  });
}

/** An agent that answers. */
interface Running {
  ended: Promise<void>;
}

/** The agent of the controller's own machine, a process that is started again when it ends. */
export class LocalAgent {
  readonly socket: string;
  readonly #directory: string;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.socket = join(directory, 'agent.sock');
  }

  /** Settles when it answers. Throws `agent-start` when the first one does not. */
  async start(): Promise<void> {
    this.#running = this.#keep(await this.#begin());
  }

  /** One agent after the other, with a pause between, until this is stopped. */
  async #keep(first: Running): Promise<void> {
    let running: Running | undefined = first;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await running?.ended;
      await sleep(AGAIN_MS, signal).catch(() => undefined);
      if (!signal.aborted) running = await this.#begin().catch(() => undefined);
    }
    await running?.ended;
  }

  /** Settles when an agent answers. One that a killed controller left behind is taken over. */
  async #begin(): Promise<Running> {
    if (await answers(this.socket)) return { ended: this.#adopt() };
    const child = spawn(process.execPath, [AGENT, 'serve', '--state', this.#directory], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    this.#stop.signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
    const end = clock.monotonicMs() + START_MS;
    while (clock.monotonicMs() < end && child.exitCode === null && child.pid !== undefined) {
      if (await answers(this.socket)) return { ended };
      await sleep(100);
    }
    child.kill('SIGKILL');
    throw new StowageError('agent-start', 'the local agent does not start; its words are above');
  }

  /** Follows one that is nobody's child: it has ended when it answers no more. */
  async #adopt(): Promise<void> {
    const { signal } = this.#stop;
    while (await answers(this.socket)) {
      if (signal.aborted) await shutDown(this.socket);
      await sleep(AGAIN_MS, signal.aborted ? undefined : signal).catch(() => undefined);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.race([this.#running, sleep(STOP_MS)]);
  }
}
