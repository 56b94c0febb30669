import { spawn } from 'node:child_process';
import { isRoot } from '../support/scratch.ts';

// As root the hosts get networks of their own, inside one made for the demo; otherwise they are sshd on loopback ports.
const node = [process.execPath, 'test/demo/tour.ts'];
const command = isRoot
  ? ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...node]
  : node;
spawn(command[0]!, command.slice(1), { stdio: 'inherit' }).on('exit', (code) => process.exit(code ?? 1));
