import { execFileSync, spawn } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { bundleAgent } from '../../controller/hosts/bundle.ts';
import { scratch } from '../support/scratch.ts';

/**
 * What one change costs an agent in pools of three sizes, by its socket alone: times at the client, CPU of the agent. The agent
 * runs bundled, as on hosts. Rounds go through the pools in turn.
 */
const SIZES = [100, 10_000, 100_000];
const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 15);

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** CPU time of a process so far, ms. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [utime, stime] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(utime) + Number(stime)) * 10;
}

const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;

async function call(socketPath: string, method: string, path: string, json?: unknown): Promise<unknown> {
  const body = json === undefined ? undefined : JSON.stringify(json);
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, headers: body ? { 'content-type': 'application/json' } : {} },
      (answer) => {
        let text = '';
        answer.on('data', (part) => {
          text += part;
        });
        answer.on('end', () =>
          answer.statusCode! < 400
            ? resolve(JSON.parse(text))
            : reject(new Error(`${method} ${path}: ${text}`)),
        );
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function run(): Promise<void> {
  await using room = scratch();
  const bundle = join(room.path, 'agent.mjs');
  await bundleAgent(bundle);
  execFileSync('cp', [
    join('node_modules/@koromix', `koffi-linux-${process.arch}`, `linux_${process.arch}`, 'koffi.node'),
    join(room.path, 'koffi.node'),
  ]);
  const state = join(room.path, 'state');
  const agent = spawn(process.execPath, [bundle, 'serve', '--state', state], { stdio: 'ignore' });
  const pid = agent.pid!;
  const socket = join(state, 'agent.sock');
  const api = (method: string, path: string, json?: unknown) => call(socket, method, `/v1${path}`, json);
  try {
    while (!(await api('GET', '/info').catch(() => undefined))) await sleep(50);
    // Until it has given back what it took to load it.
    await sleep(4000);
    console.log(`agent without pools: ${rssMiB(pid).toFixed(0)} MiB`);
    for (const size of SIZES) {
      const target = join(room.path, `pool-${size}`);
      mkdirSync(target, { mode: 0o755 });
      for (let index = 0; index < size; index++) {
        const file = openSync(join(target, `volume-${index}`), 'w');
        ftruncateSync(file, 1 << 30);
        closeSync(file);
      }
      await api('POST', '/pools', { name: `p${size}`, type: 'dir', target: { path: target } });
      const began = performance.now();
      await api('POST', `/pools/p${size}/start`);
      const first = performance.now() - began;
      const again: number[] = [];
      for (let round = 0; round < 7; round++) {
        const from = performance.now();
        await api('POST', `/pools/p${size}/refresh`);
        again.push(performance.now() - from);
      }
      console.log(
        `${size} raw volumes: first look ${first.toFixed(0)} ms, a look where nothing changed ${median(again).toFixed(0)} ms, agent ${rssMiB(pid).toFixed(0)} MiB`,
      );
    }
    await sleep(2000);
    const work = ['create', 'resize', 'delete'] as const;
    const times = new Map<string, number[]>();
    const cpu = new Map<string, number>();
    const timed = async (name: string, size: number, doing: () => Promise<unknown>): Promise<void> => {
      const [from, before] = [performance.now(), cpuMs(pid)];
      await doing();
      const key = `${name} ${size}`;
      times.set(key, [...(times.get(key) ?? []), performance.now() - from]);
      cpu.set(key, (cpu.get(key) ?? 0) + cpuMs(pid) - before);
    };
    for (let round = 0; round < ROUNDS; round++)
      for (const size of SIZES) {
        const volumes = `/pools/p${size}/volumes`;
        await timed('create', size, () => api('POST', volumes, { name: 'bench', capacityBytes: 1 << 30 }));
        await timed('resize', size, () => api('POST', `${volumes}/bench/resize`, { capacityBytes: 2 ** 31 }));
        await timed('delete', size, () => api('DELETE', `${volumes}/bench`));
      }
    for (const name of work) {
      const [small] = SIZES.map((size) => median(times.get(`${name} ${size}`)!));
      for (const size of SIZES) {
        const ms = median(times.get(`${name} ${size}`)!);
        console.log(
          `${name} in a pool of ${size}: median ${ms.toFixed(1)} ms, ${(ms / small!).toFixed(2)}x of ${SIZES[0]}, CPU ${((cpu.get(`${name} ${size}`) ?? 0) / ROUNDS).toFixed(1)} ms`,
        );
      }
    }
    const from = performance.now();
    const pairs = 100;
    for (let pair = 0; pair < pairs; pair++) {
      await api('POST', '/pools/p100/volumes', { name: 'bench', capacityBytes: 1 << 30 });
      await api('DELETE', '/pools/p100/volumes/bench');
    }
    console.log(
      `create and delete, one after the other: ${((pairs * 1000) / (performance.now() - from)).toFixed(0)} pairs a second, durable`,
    );

    const idle = async (what: string, seconds: number): Promise<void> => {
      const before = cpuMs(pid);
      await sleep(seconds * 1000);
      console.log(`${what}: ${(((cpuMs(pid) - before) / seconds / 1000) * 100).toFixed(2)} % of a core`);
    };
    // It gives back what the looks took.
    await sleep(15_000);
    await idle('idle with 110,100 volumes', 30);
    console.log(`agent after it was idle: ${rssMiB(pid).toFixed(0)} MiB`);
    const guest = spawn(process.execPath, [
      '-e',
      `const fs=require('fs');const f=fs.openSync(${JSON.stringify(join(room.path, 'pool-100000/volume-5'))},'r+');const b=Buffer.alloc(4096,1);let n=0;(function w(){for(let i=0;i<100;i++)fs.writeSync(f,b,0,4096,(n++%4096)*4096);setImmediate(w)})()`,
    ]);
    await idle('a guest writing to one of 100,000 volumes', 20);
    guest.kill();
  } finally {
    agent.kill('SIGKILL');
  }
}

await run();
