import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isRoot, scratch } from '../support/scratch.ts';
import { testHostImage } from './image.ts';
import type { Outcome } from './inside.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** A host that takes longer is taken for hung. */
const PATIENCE_MS = 870_000;

/** Whether this process runs in a test host. */
export const inTestHost = process.env.STOWAGE_TEST_HOST !== undefined;

interface Options {
  /** Empty disks of so many MiB: /dev/vdb, /dev/vdc and so on. */
  disksMiB?: number[];
  /** Takes the power from the host when it settles, unless that has ended; what it had not made durable is lost. */
  losePower?(ended: AbortSignal): Promise<void>;
  /** With the modules of OpenZFS. */
  zfs?: boolean;
}

const MEMORY_MIB = 1024;
/**
 * Nobody attacks it; its clock is the processor's. What is emulated less is faster: one older processor, and a kernel that guards
 * nothing. Above all programs lie at the same addresses each time, so that QEMU has their code translated already: an `lvs` takes
 * 0.10 s and not 0.26.
 */
const QUICK =
  'mitigations=off norandmaps init_on_alloc=0 lsm= audit=0 tsc=reliable clocksource=tsc rcupdate.rcu_expedited=1';

/** Serves the directories to the host, and becomes it. All of them are one process group. */
const START = `
serve() { /usr/lib/qemu/virtiofsd --socket-path="$sockets/$1" -o source="$2" -o "sandbox=chroot,cache=$3" & }
serve checkout "$checkout" auto
serve share "$share" none
for try in $(seq 200); do
  [ -S "$sockets/checkout" ] && [ -S "$sockets/share" ] && break
  sleep 0.05
done
exec qemu-system-x86_64 "$@"`;

/**
 * An emulated machine: what it does costs the other tests no more than the time of one processor. User-Mode Linux is as fast
 * alone, but here two of its kernels at once are four times as slow, and everything beside them suffers.
 */
function commandOf(sockets: string, disks: string[], zfs: boolean): string[] {
  const directory = testHostImage(zfs);
  const drive = (path: string, more = ''): string[] => [
    '-drive',
    `file=${path},if=virtio,format=raw,cache=unsafe${more}`,
  ];
  const served = (name: string): string[] => [
    ...['-chardev', `socket,id=${name},path=${join(sockets, name)}`],
    ...['-device', `vhost-user-fs-pci,chardev=${name},tag=${name}`],
  ];
  return [
    ...['sh', '-c', START, 'sh'],
    ...[
      '-machine',
      'q35,memory-backend=memory',
      '-accel',
      'tcg,tb-size=1024',
      '-cpu',
      'Nehalem',
      '-smp',
      '1',
    ],
    ...['-object', `memory-backend-memfd,id=memory,size=${MEMORY_MIB}M,share=on`, '-m', String(MEMORY_MIB)],
    ...['-kernel', join(directory, 'kernel'), '-initrd', join(directory, 'initrd')],
    ...['-append', `console=ttyS0 quiet panic=-1 ${QUICK}`, '-no-reboot'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio'],
    ...drive(join(directory, 'disk'), ',snapshot=on'),
    ...disks.flatMap((path) => drive(path)),
    ...served('checkout'),
    ...served('share'),
  ];
}

/**
 * Starts a host with a Linux kernel of its own, which sees this checkout under /checkout and has no network, runs a shell script in
 * it as root, and switches it off. Gives the script's status, undefined where it lost power, and its output; files that it writes
 * to /share are in `share`. Disks are there again for the next host with the same `share`.
 */
export async function runInTestHost(
  share: string,
  script: string,
  { disksMiB = [], losePower, zfs = false }: Options,
): Promise<{ status: number | undefined; output: string }> {
  writeFileSync(join(share, 'job'), script);
  for (const name of ['status', 'output']) rmSync(join(share, name), { force: true });
  const disks = disksMiB.map((sizeMiB, index) => {
    const path = join(share, `disk${index + 1}`);
    if (!existsSync(path)) writeFileSync(path, '');
    truncateSync(path, sizeMiB << 20);
    return path;
  });
  const sockets = mkdtempSync(join(tmpdir(), 'stowage-host-'));
  const [program, ...args] = commandOf(sockets, disks, zfs);
  const child = spawn(program!, args, {
    // A group of its own, with all that it starts.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    // What it changes on its first disk is kept in files without a name there.
    env: { PATH: process.env.PATH, TMPDIR: sockets, checkout: CHECKOUT, share, sockets },
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
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, stopped);
  await new Promise((done) => child.once('close', done));
  ended.abort();
  clearTimeout(timer);
  process.off('exit', kill);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, stopped);
  kill();
  rmSync(sockets, { recursive: true, force: true });
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
  const words = Object.entries({ STOWAGE_KEY_MS: '10', ...env, STOWAGE_TEST_HOST: '1' }).map(
    ([name, value]) => `${name}=${value}`,
  );
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
