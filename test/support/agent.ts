import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Answer<T> {
  status: number;
  body: T;
}

/** A real agent in a process of its own, asked by its socket alone, and the means to kill it. */
export class TestAgent implements AsyncDisposable {
  readonly #state: string;
  readonly #env: NodeJS.ProcessEnv;
  #process: ChildProcess | undefined;

  private constructor(state: string, env: NodeJS.ProcessEnv) {
    this.#state = state;
    this.#env = env;
  }

  static async start(state: string, env: NodeJS.ProcessEnv = {}): Promise<TestAgent> {
    const agent = new TestAgent(state, env);
    await agent.restart();
    return agent;
  }

  async restart(): Promise<void> {
    const args = ['agent/main.ts', 'serve', '--state', this.#state];
    const child = spawn(process.execPath, args, { stdio: 'ignore', env: { ...process.env, ...this.#env } });
    this.#process = child;
    while (!(await this.call('GET', '/info').catch(() => undefined))) {
      if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}`);
      await sleep(20);
    }
  }

  get pid(): number {
    return this.#process!.pid!;
  }

  async kill(): Promise<void> {
    const child = this.#process!;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** Whatever the status is. Rejects when the connection breaks. */
  call<T>(
    method: string,
    path: string,
    body?: unknown,
    more: Record<string, string> = {},
  ): Promise<Answer<T>> {
    const bytes = body === undefined || Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const type = Buffer.isBuffer(body) ? 'application/octet-stream' : 'application/json';
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          socketPath: join(this.#state, 'agent.sock'),
          method,
          path: `/v1${path}`,
          headers: { ...more, ...(bytes && { 'content-type': type, 'content-length': bytes.length }) },
        },
        (answer) => {
          const parts: Buffer[] = [];
          answer.on('data', (part: Buffer) => parts.push(part));
          answer.on('error', reject);
          answer.on('end', () => {
            const whole = Buffer.concat(parts);
            const json = answer.headers['content-type']?.includes('json');
            resolve({ status: answer.statusCode!, body: (json ? JSON.parse(whole.toString()) : whole) as T });
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(bytes);
    });
  }

  /** What a request that must succeed answers. */
  async ok<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.call<T>(method, path, body);
    if (answer.status >= 400)
      throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
