import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createReadStream, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { TestAgent } from '../support/agent.ts';
import { makeImage } from '../support/migration.ts';
import { scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

// Upload of 1 GiB to an agent's socket, as plain bytes, against dd past the page cache: the same disk, both durable at the end.
const SIZE_MIB = 1024;

await using room = await scratch();
const state = join(room.path, 'state');
const target = join(room.path, 'pool');
mkdirSync(target, { mode: 0o755 });
const image = join(room.path, 'image');
await makeImage(image, SIZE_MIB);
await using agent = await TestAgent.start(state);
await agent.ok('POST', '/pools', { name: 'p', type: 'dir', target: { path: target } });
await agent.ok('POST', '/pools/p/start');
const { pid } = await agent.ok<{ pid: number }>('GET', '/info');

/** CPU time of the agent so far, seconds. */
function cpuSeconds(): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(utime) + Number(stime)) / 100;
}

function send(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: join(state, 'agent.sock'),
        method: 'PUT',
        path: `/v1${path}`,
        headers: { 'content-type': 'application/octet-stream', 'content-length': SIZE_MIB << 20 },
      },
      (answer) => {
        answer.resume();
        answer.on('end', () =>
          answer.statusCode === 200 ? resolve() : reject(new Error(String(answer.statusCode))),
        );
      },
    );
    outgoing.on('error', reject);
    createReadStream(image, { highWaterMark: 1 << 20 }).pipe(outgoing);
  });
}

const cpu: number[] = [];
await compare(
  `upload ${SIZE_MIB} MiB random to the agent's socket, durable`,
  [
    {
      name: 'the agent',
      async run() {
        const id = randomUUID();
        const before = cpuSeconds();
        const took = await seconds(async () => {
          const parts = [{ name: '', sizeBytes: SIZE_MIB << 20, dense: false }];
          const spec = { id, pool: 'p', volume: 'v', format: 'raw', representation: 'image', parts };
          await agent.ok('POST', '/transfers', spec);
          await send(`/transfers/${id}/bytes?offset=0`);
          await agent.ok('POST', `/transfers/${id}/commit`, {});
        });
        cpu.push(cpuSeconds() - before);
        await agent.ok('DELETE', '/pools/p/volumes/v');
        return took;
      },
    },
    {
      name: 'dd oflag=direct conv=fsync',
      async run() {
        const path = join(target, 'theirs');
        const took = await seconds(async () => {
          execFileSync('dd', [
            `if=${image}`,
            `of=${path}`,
            'bs=1M',
            'oflag=direct',
            'conv=fsync',
            'status=none',
          ]);
        });
        rmSync(path);
        return took;
      },
    },
  ],
  7,
);
cpu.sort((a, b) => a - b);
console.log(`  CPU time of the agent, median: ${cpu[Math.floor(cpu.length / 2)]!.toFixed(1)} s`);
