import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execute, until } from './controller.ts';
import type { TestHost } from './hosts.ts';

/** A libvirtd of the test's own, to be compared with. Pools are transient: it leaves nothing behind. */
export class Libvirtd implements AsyncDisposable {
  readonly #daemon: ChildProcess;
  readonly #socket: string;
  readonly #pools: string[] = [];

  private constructor(daemon: ChildProcess, socket: string) {
    this.#daemon = daemon;
    this.#socket = socket;
  }

  static async start(directory: string): Promise<Libvirtd> {
    mkdirSync(directory, { recursive: true });
    const conf = join(directory, 'libvirtd.conf');
    writeFileSync(
      conf,
      [
        `unix_sock_dir = "${directory}"`,
        'auth_unix_rw = "none"',
        `log_outputs = "3:file:${directory}/log"`,
        '',
      ].join('\n'),
    );
    const daemon = spawn('/usr/sbin/libvirtd', ['-f', conf, '-p', join(directory, 'pid')], {
      stdio: 'ignore',
    });
    const socket = join(directory, 'libvirt-sock');
    await until('libvirtd listens', () => existsSync(socket));
    return new Libvirtd(daemon, socket);
  }

  /** A transient directory pool. */
  async pool(name: string, path: string): Promise<void> {
    await this.virsh('pool-create-as', name, 'dir', '--target', path);
    this.#pools.push(name);
  }

  /** Runs virsh over the local socket. */
  async virsh(...args: string[]): Promise<string> {
    return await this.#run(`storage:///system?socket=${this.#socket}`, args);
  }

  /** Runs virsh over SSH, as if the daemon were on that host. */
  async virshOver(host: TestHost, ...args: string[]): Promise<string> {
    const address = `${host.user}@${host.address}:${host.port}`;
    const parameters = `socket=${this.#socket}&keyfile=${host.identity}&no_verify=1&proxy=netcat&no_tty=1`;
    return await this.#run(`storage+ssh://${address}/system?${parameters}`, args);
  }

  async #run(uri: string, args: string[]): Promise<string> {
    const { status, stdout, stderr } = await execute('virsh', ['-q', '-c', uri, ...args]);
    if (status !== 0) throw new Error(`virsh ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pool of this.#pools) await this.virsh('pool-destroy', pool).catch(() => undefined);
    const ended = once(this.#daemon, 'exit');
    this.#daemon.kill();
    await ended;
  }
}
