import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemRoot } from './image.ts';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
const BOOT_MS = 60_000;
const STOP_MS = 15_000;
/** A command that takes longer is taken for hung. */
const RUN_MS = 120_000;

/**
 * A Debian that has booted with systemd, in a container of its own with a network of its own: nothing but its loopback. What is written to
 * it is gone when it ends. Needs root.
 */
export class TestSystem implements AsyncDisposable {
  readonly #nspawn: ChildProcess;
  readonly #machine: string;
  #console = '';
  #init = '';

  private constructor(share: string) {
    this.#machine = `stowage-${randomBytes(4).toString('hex')}`;
    const options = ['--quiet', '--register=no', '--keep-unit', '--private-network', '--volatile=overlay'];
    this.#nspawn = spawn(
      'systemd-nspawn',
      [
        ...options,
        `--machine=${this.#machine}`,
        `--directory=${systemRoot()}`,
        `--bind=${share}:/share`,
        '--boot',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [this.#nspawn.stdout!, this.#nspawn.stderr!])
      stream.on('data', (part: Buffer) => {
        this.#console = (this.#console + part.toString()).slice(-10_000);
      });
    process.once('exit', this.#kill);
    // A test run that is stopped leaves no system behind.
    for (const signal of SIGNALS) process.once(signal, this.#leave);
  }

  readonly #kill = (): void => void this.#nspawn.kill('SIGKILL');
  readonly #leave = (): void => process.exit(143);

  /** Gives one that has booted; the directory `share` is its /share. */
  static async boot(share: string): Promise<TestSystem> {
    const system = new TestSystem(share);
    const end = Date.now() + BOOT_MS;
    for (;;) {
      const { stdout } = spawnSync('pgrep', ['-P', String(system.#nspawn.pid)], { encoding: 'utf8' });
      system.#init = stdout.trim().split('\n')[0] ?? '';
      const state = system.#init === '' ? '' : system.run('systemctl is-system-running').stdout.trim();
      if (state === 'running' || state === 'degraded') return system;
      if (Date.now() > end || system.#nspawn.exitCode !== null) {
        await system[Symbol.asyncDispose]();
        throw new Error(`the system did not boot (${state}):\n${system.#console}`);
      }
      await sleep(200);
    }
  }

  /** Runs a line of shell in it as root. */
  run(line: string): { status: number | null; stdout: string; stderr: string } {
    const into = ['-t', this.#init, '-m', '-u', '-i', '-n', '-p', '-r', '-w'];
    const environment = [
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      'HOME=/root',
      'LC_ALL=C.UTF-8',
      'DEBIAN_FRONTEND=noninteractive',
    ];
    return spawnSync('nsenter', [...into, 'env', '-i', ...environment, 'sh', '-c', line], {
      encoding: 'utf8',
      timeout: RUN_MS,
      killSignal: 'SIGKILL',
    });
  }

  /** Gives what a line prints; fails where its status is not 0. */
  ok(line: string): string {
    const { status, stdout, stderr } = this.run(line);
    assert.equal(status, 0, `${line}\n${stdout}${stderr}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#kill);
    for (const signal of SIGNALS) process.off(signal, this.#leave);
    if (this.#nspawn.exitCode === null && this.#nspawn.signalCode === null) {
      const closed = once(this.#nspawn, 'close');
      // It switches the system off.
      this.#nspawn.kill('SIGTERM');
      const timer = setTimeout(this.#kill, STOP_MS);
      await closed;
      clearTimeout(timer);
    }
    execFileSync('rm', ['-rf', '--one-file-system', `/run/systemd/nspawn/propagate/${this.#machine}`]);
    rmSync(`/run/systemd/nspawn/unix-export/${this.#machine}`, { recursive: true, force: true });
  }
}
