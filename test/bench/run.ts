import { spawn } from 'node:child_process';

/**
 * `npm run bench [-- NAME …]`: runs benchmarks side by side with the tools people use today, by hand, as root. Everything
 * happens in a network namespace made for it.
 */
const ALL = [
  'fleet',
  'scale',
  'migrate',
  'moves',
  'transfer',
  'clone',
  'images',
  'allocations',
  'agent',
  'list',
  'upload',
  'rounds',
  'xml',
  'page',
];
/** They take long, and are run only when they are named. */
const LONG = ['tab'];
const names = process.argv.slice(2);
for (const name of names.length > 0 ? names : ALL) {
  if (![...ALL, ...LONG].includes(name))
    throw new Error(`there is no benchmark '${name}'; there are ${[...ALL, ...LONG].join(', ')}`);
  const child = spawn(
    'unshare',
    [
      '--net',
      'sh',
      '-c',
      'ip link set lo up && sysctl -qw net.ipv4.ip_local_port_range="2000 65000" && exec "$@"',
      'sh',
      process.execPath,
      `test/bench/${name}.ts`,
    ],
    { stdio: 'inherit' },
  );
  const code = await new Promise<number>((resolve) => child.on('exit', (status) => resolve(status ?? 1)));
  if (code !== 0) process.exit(code);
}
