import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isRoot, scratch } from '../support/scratch.ts';
import { testHostImage } from './image.ts';
import type { Outcome } from './inside.ts';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** A host that takes longer is taken for hung. */
const PATIENCE_MS = 870_000;

/** Whether this process runs in a test host. Its disks are /dev/ubdb, /dev/ubdc and so on. */
export const inTestHost = process.env.STOWAGE_TEST_HOST !== undefined;

interface Options {
  /** Empty disks of so many MiB. */
  disksMiB?: number[];
  memoryMiB?: number;
}

/**
 * Starts a host with a Linux kernel of its own (User-Mode Linux), which sees this checkout under /checkout and has no network,
 * runs a shell script in it as root, and switches it off. Gives the script's status and output; files that it writes to
 * /share are in `share`.
 */
async function runInTestHost(
  share: string,
  script: string,
  options: Options,
): Promise<{ status: number; output: string }> {
  const { disk, library } = testHostImage();
  writeFileSync(join(share, 'job'), script);
  const disks = (options.disksMiB ?? []).map((sizeMiB, index) => {
    const path = join(share, `disk${index + 1}`);
    writeFileSync(path, '');
    truncateSync(path, sizeMiB << 20);
    return `ubd${index + 1}=${path}`;
  });
  // Its memory is a file there, which must be one of memory.
  const run = join('/dev/shm', `stowage-host-${process.pid}-${Date.now()}`);
  mkdirSync(run);
  const child = spawn(
    'linux.uml',
    [
      'umid=host',
      `uml_dir=${run}`,
      `mem=${options.memoryMiB ?? 512}M`,
      `ubd0=${join(share, 'root.cow')},${disk}`,
      ...disks,
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
    {
      // A group of its own, with all that it starts.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH, LD_PRELOAD: library, TMPDIR: run },
    },
  );
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
  process.once('exit', kill);
  // A test run that is stopped leaves no guest behind.
  const stopped = (): void => process.exit(143);
  process.once('SIGTERM', stopped);
  await new Promise((done) => child.once('close', done));
  clearTimeout(timer);
  process.off('exit', kill);
  process.off('SIGTERM', stopped);
  kill();
  rmSync(run, { recursive: true, force: true });
  const read = (name: string): string => {
    const path = join(share, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  };
  const output = read('output');
  if (read('status') === '') throw new Error(`the test host did not finish:\n${console}\n${output}`);
  return { status: Number(read('status')), output };
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
