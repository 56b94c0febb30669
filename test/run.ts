import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { installCommand } from '../controller/cli/install.ts';
import slowFiles from './setup/slow-files.ts';

/**
 * Runs the tests. As root everything runs in a network namespace made for it: the test hosts get addresses of their own
 * and nothing leaves the machine. Otherwise hosts are sshd on loopback ports. Arguments are patterns of test files.
 */
const patterns = process.argv.slice(2);
/** Says that this process is in its namespace already. */
const INSIDE = 'STOWAGE_TEST_NAMESPACE';
/** One more than processors: some wait for a pool that comes back, a lease that ends, Ceph. */
const SIDE_BY_SIDE = Math.min(availableParallelism(), 4) + 1;
const LONGEST_MS = 1_200_000;
/**
 * In a run of everything so few files that fail run once more, alone: what a busy machine did is told apart from what
 * the code does. Both outcomes are told, and a test that passes only alone is a fault to mend.
 */
const MOST_AGAIN = 4;
/** What thousands of processes would do again and again is kept between them, and between runs. */
const CACHE = join(import.meta.dirname, '../node_modules/.cache/stowage-test');

/** Those that take minutes come first, those that mostly wait beside those that never do: at the end nobody waits for one of them alone. */
const LONG = [
  'conformance/logical',
  'faults/migration',
  'conformance/rbd',
  'conformance/netfs-kernel',
  'packages',
  'web/page',
  'faults/power-loss',
  'e2e/story',
  'e2e/images',
];

function testFiles(): string[] {
  // The engines that take long to start are tried by hand: npm run engines.
  const all = (): string[] =>
    globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/engines/'));
  const rank = (file: string): number => {
    const at = LONG.findIndex((part) => file.includes(part));
    return at < 0 ? LONG.length : at;
  };
  const files = patterns.length > 0 ? globSync(patterns) : all();
  return files.sort().sort((one, other) => rank(one) - rank(other));
}

/** Gives the files in which a test failed, or that ended by themselves. */
async function runFiles(files: string[], concurrency: number, signal: AbortSignal): Promise<string[]> {
  const events = run({ files, concurrency, timeout: LONGEST_MS, signal });
  const failed = new Set<string>();
  let sound = false;
  events.on('test:summary', ({ file, success }) => {
    if (file === undefined) sound = success;
    else if (!success) failed.add(relative(process.cwd(), file));
  });
  events.on('test:fail', ({ name }) => {
    if (files.includes(name)) failed.add(name);
  });
  await Promise.all(
    [spec, slowFiles].map((reporter) => pipeline(events.compose(reporter), process.stdout, { end: false })),
  );
  if (!sound && failed.size === 0) throw new Error('the run failed, and no file of it');
  return [...failed];
}

async function runHere(): Promise<void> {
  const files = testFiles();
  if (files.length === 0) throw new Error(`no test file is ${patterns.join(' or ')}`);
  process.env.NODE_COMPILE_CACHE ??= join(CACHE, 'compiled');
  // Keys of encrypted volumes that nobody need guard: made, and opened, in a moment.
  process.env.STOWAGE_KEY_MS ??= '10';
  process.env.STOWAGE_TEST_COMMAND ??= await installCommand(join(CACHE, 'bin'));
  const stop = new AbortController();
  // It ends the files that run now, and they the hosts that they have started.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
  let failed = await runFiles(files, SIDE_BY_SIDE, stop.signal);
  if (patterns.length === 0 && failed.length > 0 && failed.length <= MOST_AGAIN && !stop.signal.aborted) {
    const suspects = failed;
    failed = await runFiles(suspects, 1, stop.signal);
    for (const file of suspects)
      console.log(`${file} failed beside others, and ${failed.includes(file) ? 'failed' : 'passed'} alone`);
  }
  if (failed.length > 0 || stop.signal.aborted) process.exitCode = 1;
}

function runInNamespace(): void {
  const here = [process.execPath, import.meta.filename, ...patterns];
  const command = ['--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...here];
  const child = spawn('unshare', command, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
}

if (process.getuid?.() === 0 && process.env[INSIDE] === undefined) runInNamespace();
else await runHere();
