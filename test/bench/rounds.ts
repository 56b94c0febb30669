import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestAgent } from '../support/agent.ts';
import { startCeph } from '../support/ceph.ts';
import { startGluster } from '../support/gluster.ts';
import { isRoot, scratch } from '../support/scratch.ts';

/**
 * Rounds of create, clone, trash, restore and delete in pools of several types, by one agent: what is there afterwards that was not
 * before: descriptors, processes, mounts, loop devices, memory, files and images. `STOWAGE_BENCH_ROUNDS` is a factor, 1 by default.
 */
const FACTOR = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 1);

/** An agent and the processes of its pools. */
function family(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return [pid, ...(children === '' ? [] : children.split(' ').flatMap((child) => family(Number(child))))];
}

interface Held {
  descriptors: number;
  processes: number;
  mounts: number;
  loops: number;
  rssMiB: number;
}

function held(pid: number): Held {
  const pids = family(pid);
  const rss = pids.map((each) =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${each}/status`, 'utf8'))?.[1] ?? 0),
  );
  return {
    descriptors: pids.reduce((sum, each) => sum + readdirSync(`/proc/${each}/fd`).length, 0),
    processes: pids.length,
    mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length,
    loops: execFileSync('losetup', ['--all'], { encoding: 'utf8' }).split('\n').length,
    rssMiB: Math.round(rss.reduce((sum, each) => sum + each, 0) / 1024),
  };
}

const show = (what: string, { descriptors, processes, mounts, loops, rssMiB }: Held): void =>
  console.log(
    `  ${what.padEnd(8)} ${descriptors} descriptors, ${processes} processes, ${mounts} mounts, ${loops} loop devices, ${rssMiB} MiB`,
  );

async function rounds(agent: TestAgent, pool: string, format: string, count: number): Promise<void> {
  const at = `/pools/${pool}/volumes`;
  const round = async (): Promise<void> => {
    await agent.ok('POST', at, { name: 'a', capacityBytes: 4 << 20, format });
    await agent.ok('POST', `${at}/a/clone`, { name: 'b' });
    const { id } = await agent.ok<{ id: string }>('POST', `${at}/a/trash`, { keepUntil: Date.now() });
    await agent.ok('POST', `/pools/${pool}/trash/${id}/restore`, {});
    for (const name of ['a', 'b']) await agent.ok('DELETE', `${at}/${name}`);
  };
  // What is opened once and kept is no leak.
  for (let warm = 0; warm < 20; warm++) await round();
  await sleep(1000);
  const before = held(agent.pid);
  const began = performance.now();
  for (let done = 0; done < count; done++) await round();
  const seconds = (performance.now() - began) / 1000;
  await sleep(2000);
  const after = held(agent.pid);
  console.log(
    `${pool}, ${format}: ${count} rounds in ${seconds.toFixed(1)} s, ${((seconds * 1000) / count).toFixed(1)} ms each`,
  );
  show('before', before);
  show('after', after);
  const left = await agent.ok<unknown[]>('GET', at);
  const orphans = await agent.ok<unknown[]>('GET', `/pools/${pool}/orphans`);
  console.log(`  left: ${left.length} volumes, ${orphans.length} orphans`);
  const isLeak = (['descriptors', 'processes', 'mounts', 'loops'] as const).some(
    (key) => after[key] > before[key] + 3,
  );
  if (isLeak || left.length + orphans.length > 0) {
    console.error(`${pool}, ${format}: something is left`);
    process.exitCode = 1;
  }
}

await using room = scratch();
await using agent = await TestAgent.start(join(room.path, 'state'));
const directory = join(room.path, 'dir');
mkdirSync(directory);
await agent.ok('POST', '/pools', { name: 'dir', type: 'dir', target: { path: directory } });
await agent.ok('POST', '/pools/dir/start');
await rounds(agent, 'dir', 'raw', 10_000 * FACTOR);
await rounds(agent, 'dir', 'qcow2', 1000 * FACTOR);
await rounds(agent, 'dir', 'ploop', 1000 * FACTOR);
if (isRoot) {
  await using ceph = await startCeph();
  await agent.ok('POST', '/pools', {
    name: 'rbd',
    type: 'rbd',
    source: { hosts: [ceph.monitor], name: 'rbd' },
    configOptions: [{ name: 'keyring', value: ceph.keyring }],
  });
  await agent.ok('POST', '/pools/rbd/start');
  await rounds(agent, 'rbd', 'raw', 200 * FACTOR);
  await agent.ok('POST', '/pools/rbd/stop');
  await using gluster = await startGluster(join(room.path, 'gluster'));
  await agent.ok('POST', '/pools', {
    name: 'gluster',
    type: 'gluster',
    source: { hosts: [{ name: gluster.address }], name: 'gv0', dir: '/' },
  });
  await agent.ok('POST', '/pools/gluster/start');
  await rounds(agent, 'gluster', 'raw', 1000 * FACTOR);
  await agent.ok('POST', '/pools/gluster/stop');
}
