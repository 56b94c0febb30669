import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';

/**
 * Runs the tests. As root everything runs in a network namespace made for it: the test hosts get addresses of their own
 * and nothing leaves the machine. Otherwise hosts are sshd on loopback ports. Arguments are patterns of test files.
 */
const patterns = process.argv.slice(2);
// The engines that take long to start are tried by hand: npm run engines.
const all = () => globSync('test/**/*.test.ts').filter((file) => !file.startsWith('test/engines/'));
const files = (patterns.length > 0 ? globSync(patterns) : all()).sort();
const node = [process.execPath, '--test', '--test-concurrency=2', '--test-timeout=900000', ...files];
const isRoot = process.getuid?.() === 0;
const command = isRoot
  ? ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...node]
  : node;

const child = spawn(command[0]!, command.slice(1), { stdio: 'inherit' });
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
