import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bundleAgent } from '../../controller/hosts/bundle.ts';
import { scratch } from '../support/scratch.ts';

const ROUNDS = 9;

function ask(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const stream = createConnection(socket);
    stream.on('error', () => resolve(false));
    stream.on('connect', () =>
      stream.write('GET /v1/pools HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
    );
    stream.on('data', () => {
      stream.destroy();
      resolve(true);
    });
  });
}

await using room = scratch();
const bundle = join(room.path, 'agent.mjs');
await bundleAgent(bundle);
console.log(`\nagent\n  bundle            ${(statSync(bundle).size / (1 << 20)).toFixed(2)} MiB`);
const starts: number[] = [];
let idle = 0;
for (let round = 0; round <= ROUNDS; round++) {
  const state = join(room.path, `state-${round}`);
  const began = performance.now();
  const agent = spawn(process.execPath, [bundle, 'serve', '--state', state], {
    stdio: 'ignore',
    // As the controller starts it on a host; the first start fills the cache and does not count.
    env: { ...process.env, NODE_COMPILE_CACHE: join(room.path, 'compiled') },
  });
  while (!(await ask(join(state, 'agent.sock')))) await sleep(2);
  if (round > 0) starts.push(performance.now() - began);
  // Until it has given back what it took to load it.
  await sleep(4000);
  idle = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, 'utf8'))?.[1]) / 1024;
  agent.kill();
}
starts.sort((a, b) => a - b);
console.log(
  `  start to answer   ${starts[Math.floor(ROUNDS / 2)]!.toFixed(0)} ms (${starts[0]!.toFixed(0)} to ${starts.at(-1)!.toFixed(0)}, ${ROUNDS} starts)`,
);
console.log(`  idle memory       ${idle.toFixed(0)} MiB resident`);
