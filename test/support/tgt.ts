import { execFileSync, spawn } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

/** An iSCSI target of one process, tgtd, with units that are files. */
export interface IscsiTarget extends AsyncDisposable {
  readonly portal: { name: string; port: number };
  readonly iqn: string;
  /** The file behind each unit, by its number: 1, 2 and so on. Unit 0 is the controller. */
  readonly files: readonly string[];
  /** Runs tgtadm on it. */
  admin(...args: string[]): void;
  /** Ends the process, as a target that loses power. */
  kill(): Promise<void>;
  /** Starts it again as it was. */
  revive(): Promise<void>;
}

let started = 0;

export async function startTarget(
  directory: string,
  sizesMiB: readonly number[],
  address = '127.0.0.1',
): Promise<IscsiTarget> {
  const number = ++started;
  const port = 13_260 + (process.pid % 2000) * 4 + number;
  const control = String((process.pid % 2000) * 4 + number);
  const env = { PATH: process.env.PATH, TGT_IPC_SOCKET: join(directory, `tgt-${number}`) };
  const iqn = `iqn.2026-01.test:target${number}`;
  const files = sizesMiB.map((sizeMiB, index) => {
    const file = join(directory, `unit-${number}-${index + 1}`);
    writeFileSync(file, '');
    truncateSync(file, sizeMiB << 20);
    return file;
  });
  const admin = (...args: string[]): void =>
    void execFileSync('tgtadm', ['-C', control, '--lld', 'iscsi', ...args], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  let child: ReturnType<typeof spawn> | undefined;
  const killed = (): void => void child?.kill('SIGKILL');
  process.once('exit', killed);
  // A test run that is stopped leaves nothing behind.
  const stopped = (): void => process.exit(143);
  process.once('SIGTERM', stopped);
  const kill = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((done) => child!.once('exit', done));
    // It heeds no SIGTERM while it has targets.
    child.kill('SIGKILL');
    await ended;
  };
  const start = async (): Promise<void> => {
    child = spawn('tgtd', ['-f', '-C', control, '--iscsi', `portal=${address}:${port}`], {
      env,
      stdio: 'ignore',
    });
    for (let tries = 0; ; tries++) {
      try {
        admin('--op', 'new', '--mode', 'target', '--tid', '1', '--targetname', iqn);
        break;
      } catch (error) {
        if (tries > 50) throw error;
        await setTimeout(50);
      }
    }
    for (const [index, file] of files.entries())
      admin(
        ...['--op', 'new', '--mode', 'logicalunit', '--tid', '1'],
        ...['--lun', String(index + 1), '--backing-store', file],
      );
    admin('--op', 'bind', '--mode', 'target', '--tid', '1', '--initiator-address', 'ALL');
  };
  await start();
  return {
    portal: { name: address, port },
    iqn,
    files,
    admin,
    kill,
    revive: start,
    async [Symbol.asyncDispose]() {
      process.off('exit', killed);
      process.off('SIGTERM', stopped);
      await kill();
    },
  };
}
