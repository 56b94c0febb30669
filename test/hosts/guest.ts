import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isRoot, scratch } from '../support/scratch.ts';
import { testHostImage, zfsMachineImage } from './image.ts';
import type { Outcome } from './inside.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** A host that takes longer is taken for hung. */
const PATIENCE_MS = 870_000;

/** Whether this process runs in a test host. Its disks are /dev/ubdb, /dev/ubdc and so on, or /dev/vdb with the kernel `zfs`. */
export const inTestHost = process.env.STOWAGE_TEST_HOST !== undefined;

interface Options {
  /** Empty disks of so many MiB. */
  disksMiB?: number[];
  memoryMiB?: number;
  /** Takes the power from the host when it settles, unless that has ended; what it had not made durable is lost. */
  losePower?(ended: AbortSignal): Promise<void>;
  /** Which kernel: User-Mode Linux, or Debian's with ZFS in a machine that QEMU emulates, which takes longer. */
  kernel?: 'uml' | 'zfs';
}

/** How a host is started, and what it needs only while it runs. */
interface Start {
  command: string[];
  env: NodeJS.ProcessEnv;
  directory?: string;
  /** Brings what it wrote to where it is looked for. */
  after?(): void;
}

/** User-Mode Linux. Its memory is a file in a directory, which must be one of memory. */
function userModeLinux(share: string, disks: string[], memoryMiB: number): Start {
  const { disk, library } = testHostImage();
  const directory = join('/dev/shm', `stowage-host-${process.pid}-${Date.now()}`);
  mkdirSync(directory);
  return {
    directory,
    env: { PATH: process.env.PATH, LD_PRELOAD: library, TMPDIR: directory },
    command: [
      'linux.uml',
      'umid=host',
      `uml_dir=${directory}`,
      `mem=${memoryMiB}M`,
      `ubd0=${join(share, 'root.cow')},${disk}`,
      ...disks.map((path, index) => `ubd${index + 1}=${path}`),
      'root=/dev/ubda',
      'rw',
      'init=/sbin/init-testhost',
      `checkout=${CHECKOUT}`,
      `share=${share}`,
      'con=null',
      'ssl=null',
      'con0=null,fd:1',
      'quiet',
    ],
  };
}

/** What a machine needs of this checkout to run tests of the agent. */
const NEEDED = ['package.json', 'agent', 'shared', 'test', 'node_modules'];
const UNUSED = ['@biomejs', 'typescript', 'better-sqlite3', '@esbuild', 'esbuild', 'knip'];

/** Makes a disk with a file system of what is in a directory. */
function diskOf(directory: string, label: string, sizeMiB: number, disk: string): void {
  writeFileSync(disk, '');
  truncateSync(disk, sizeMiB << 20);
  execFileSync('mkfs.ext4', ['-q', '-F', '-L', label, '-d', directory, disk]);
}

/**
 * A machine with ZFS in its kernel, emulated whole: its disks are /dev/vdb and so on. Debian's kernel for clouds knows no way to see
 * directories of its host: it gets the checkout, and gives back what it wrote, on disks.
 */
function zfsMachine(share: string, disks: string[], memoryMiB: number): Start {
  const { directory } = zfsMachineImage();
  const drive = (path: string, more = ''): string[] => [
    '-drive',
    `file=${path},if=virtio,format=raw,cache=unsafe${more}`,
  ];
  const checkout = join(share, 'checkout');
  mkdirSync(checkout);
  for (const part of NEEDED) cpSync(join(CHECKOUT, part), join(checkout, part), { recursive: true });
  for (const part of UNUSED) rmSync(join(checkout, 'node_modules', part), { recursive: true, force: true });
  diskOf(checkout, 'checkout', 600, join(share, 'checkout.img'));
  rmSync(checkout, { recursive: true });
  mkdirSync(join(share, 'given'));
  renameSync(join(share, 'job'), join(share, 'given/job'));
  diskOf(join(share, 'given'), 'share', 64, join(share, 'share.img'));
  return {
    env: { PATH: process.env.PATH },
    command: [
      'qemu-system-x86_64',
      ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2'],
      ...['-m', String(memoryMiB), '-no-reboot'],
      ...['-kernel', join(directory, 'vmlinuz'), '-initrd', join(directory, 'initrd')],
      ...['-append', 'root=/dev/vda rw init=/sbin/init-testhost console=ttyS0 quiet'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio'],
      ...drive(join(directory, 'disk'), ',snapshot=on'),
      ...disks.flatMap((path) => drive(path)),
      ...drive(join(share, 'checkout.img')),
      ...drive(join(share, 'share.img')),
    ],
    after() {
      for (const name of ['output', 'status', 'outcomes'])
        execFileSync('debugfs', ['-R', `dump /${name} ${join(share, name)}`, join(share, 'share.img')], {
          stdio: 'ignore',
        });
    },
  };
}

/**
 * Starts a host with a Linux kernel of its own, which sees this checkout under /checkout and has no network, runs a shell script in
 * it as root, and switches it off. Gives the script's status, undefined where it lost power, and its output; files that it writes
 * to /share are in `share`. Disks are there again for the next host with the same `share`.
 */
export async function runInTestHost(
  share: string,
  script: string,
  { disksMiB = [], memoryMiB, losePower, kernel = 'uml' }: Options,
): Promise<{ status: number | undefined; output: string }> {
  writeFileSync(join(share, 'job'), script);
  for (const name of ['status', 'output', 'root.cow']) rmSync(join(share, name), { force: true });
  const disks = disksMiB.map((sizeMiB, index) => {
    const path = join(share, `disk${index + 1}`);
    if (!existsSync(path)) writeFileSync(path, '');
    truncateSync(path, sizeMiB << 20);
    return path;
  });
  const start = kernel === 'uml' ? userModeLinux : zfsMachine;
  const { command, env, directory, after } = start(
    share,
    disks,
    memoryMiB ?? (kernel === 'uml' ? 512 : 1536),
  );
  const child = spawn(command[0]!, command.slice(1), {
    // A group of its own, with all that it starts.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
  });
  let console = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer) => {
      console = (console + part.toString()).slice(-20_000);
    });
  const kill = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // it has ended
    }
  };
  const timer = setTimeout(kill, PATIENCE_MS);
  let isPowerLost = false;
  const ended = new AbortController();
  void losePower?.(ended.signal).then(() => {
    isPowerLost = !ended.signal.aborted;
    kill();
  });
  process.once('exit', kill);
  // A test run that is stopped leaves no guest behind.
  const stopped = (): void => process.exit(143);
  process.once('SIGTERM', stopped);
  await new Promise((done) => child.once('close', done));
  ended.abort();
  clearTimeout(timer);
  process.off('exit', kill);
  process.off('SIGTERM', stopped);
  kill();
  after?.();
  if (directory) rmSync(directory, { recursive: true, force: true });
  const read = (name: string): string => {
    const path = join(share, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  };
  const output = read('output');
  if (isPowerLost) return { status: undefined, output };
  if (read('status') === '') throw new Error(`the test host did not finish:\n${console}\n${output}`);
  return { status: Number(read('status')), output };
}

/** A script that runs a file of this checkout with Node in a test host, where {@link inTestHost} is true. */
export function nodeInTestHost(url: string, env: Record<string, string> = {}): string {
  const file = relative(CHECKOUT, fileURLToPath(url));
  const words = Object.entries({ ...env, STOWAGE_TEST_HOST: '1' }).map(([name, value]) => `${name}=${value}`);
  return `env ${words.join(' ')} /checkout/${relative(CHECKOUT, process.execPath)} --disable-warning=ExperimentalWarning ${file}`;
}

/**
 * Runs the tests of a file in a test host, and reports each here as its own. The file asks {@link inTestHost} where it is. With
 * STOWAGE_TEST_NAMES in the environment only those whose names match that pattern.
 */
export function testInTestHost(url: string, name: string, options: Options = {}): void {
  const skip = isRoot ? false : 'building the disk of a test host needs root';
  test(name, { skip }, async (context) => {
    await using room = scratch();
    const file = relative(CHECKOUT, fileURLToPath(url));
    const node = relative(CHECKOUT, process.execPath);
    const names = `'${(process.env.STOWAGE_TEST_NAMES ?? '').replaceAll("'", '.')}'`;
    const script = `STOWAGE_TEST_HOST=1 STOWAGE_TEST_NAMES=${names} exec /checkout/${node} --disable-warning=ExperimentalWarning test/hosts/inside.ts ${file} /share/outcomes`;
    const { status, output } = await runInTestHost(room.path, script, options);
    const path = join(room.path, 'outcomes');
    const outcomes: Outcome[] = existsSync(path)
      ? readFileSync(path, 'utf8')
          .trim()
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line))
      : [];
    for (const outcome of outcomes)
      await context.test(outcome.name, { skip: outcome.skip ?? false }, (each) => {
        each.diagnostic(`${outcome.seconds.toFixed(1)} s in the test host`);
        if (outcome.failure !== undefined) throw new Error(outcome.failure);
      });
    assert.ok(outcomes.length > 0, `no test ran in the test host:\n${output}`);
    assert.equal(status, outcomes.some(({ failure }) => failure !== undefined) ? 1 : 0, output);
  });
}
