import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';

/**
 * Runs the tests. As root everything runs in a network namespace made for it: the test hosts get addresses of their own
 * and nothing leaves the machine. Otherwise hosts are sshd on loopback ports. Arguments are patterns of test files.
 */
const patterns = process.argv.slice(2);
// The engines that take long to start are tried by hand: npm run engines.
const all = () => globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/engines/'));
/** Those that take minutes come first: at the end nobody waits for one of them alone. */
const LONG = [
  'conformance/logical',
  'conformance/netfs-kernel',
  'web/page',
  'faults/power-loss',
  'conformance/rbd',
];
const rank = (file: string): number => {
  const at = LONG.findIndex((part) => file.includes(part));
  return at < 0 ? LONG.length : at;
};
const files = (patterns.length > 0 ? globSync(patterns) : all())
  .sort()
  .sort((one, other) => rank(one) - rank(other));
const reporters = ['spec', './test/setup/slow-files.ts'].flatMap((reporter) => [
  `--test-reporter=${reporter}`,
  '--test-reporter-destination=stdout',
]);
const node = [
  process.execPath,
  '--test',
  '--test-concurrency=2',
  '--test-timeout=900000',
  ...reporters,
  ...files,
];
const isRoot = process.getuid?.() === 0;
const command = isRoot
  ? ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...node]
  : node;

const child = spawn(command[0]!, command.slice(1), { stdio: 'inherit' });
// It ends the hosts that its tests have started.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
