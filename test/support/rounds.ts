import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { inTestHost } from '../hosts/guest.ts';
import type { TestAgent } from './agent.ts';

/**
 * Rounds of making, snapshotting, cloning, mapping, throwing away and deleting leave nothing behind: no descriptor, process, loop device,
 * mount, mapping, logical volume, file. `STOWAGE_ROUNDS` says how many.
 */
const ROUNDS = Number(process.env.STOWAGE_ROUNDS ?? 10_000);
const MIB = 1 << 20;
/** Rounds before the first count: what is made once, and kept, is there then. */
const WARM_UP = 5;
/** What is only open for a moment is closed by then. */
const SETTLED_MS = 10_000;
/** What a process may have more after its garbage was not collected for a while. */
const MOST_MORE_KIB = 150 * 1024;

export interface Kind {
  name: string;
  format: string;
  /** Of all rounds so many: what tools of others make takes longer. */
  share: number;
  snapshots?: boolean;
  map?: boolean;
}

/** What one agent, and the host, hold now. */
function holdings(pid: number, directory: string): Record<string, string[]> {
  const children = (of: number): number[] =>
    readFileSync(`/proc/${of}/task/${of}/children`, 'utf8')
      .split(' ')
      .filter(Boolean)
      .map(Number)
      .flatMap((child) => [child, ...children(child)]);
  const processes = [pid, ...children(pid)];
  const descriptors = processes.flatMap((each) =>
    readdirSync(`/proc/${each}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${each}/fd/${fd}`).replace(/\d+/g, 'N')];
      } catch {
        return [];
      }
    }),
  );
  const tool = (command: string, ...args: string[]): string[] => {
    try {
      return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
        .split('\n')
        .filter((line) => line.includes(directory) || command !== 'losetup');
    } catch {
      return [];
    }
  };
  return {
    descriptors: descriptors.sort(),
    processes: processes.map((each) => readFileSync(`/proc/${each}/comm`, 'utf8').trim()).sort(),
    loops: tool('losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE'),
    mounts: readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .filter((line) => inTestHost || line.includes(directory)),
    mappings: inTestHost ? tool('dmsetup', 'ls') : [],
    files: directory === '' ? [] : (readdirSync(directory, { recursive: true }) as string[]).sort(),
  };
}

const residentKiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);

async function round(agent: TestAgent, { format, snapshots, map }: Kind, count: number): Promise<void> {
  const name = `v${count}`;
  const volume = `/pools/p/volumes/${name}`;
  const copy = `/pools/p/volumes/c${count}`;
  await agent.ok('POST', '/pools/p/volumes', { name, format, capacityBytes: 4 * MIB });
  if (snapshots) {
    const { id } = await agent.ok<{ id: string }>('POST', `${volume}/snapshots`, {});
    await agent.ok('DELETE', `${volume}/snapshots/${encodeURIComponent(id)}`);
  }
  await agent.ok('POST', `${volume}/clone`, { name: `c${count}` });
  if (map && count % 10 === 0) {
    await agent.ok('POST', `${copy}/map`);
    await agent.ok('DELETE', `${copy}/map`);
  }
  if (count % 10 === 1) {
    const { id } = await agent.ok<{ id: string }>('POST', `${copy}/trash`, { keepUntil: 1 });
    await agent.ok('DELETE', `/pools/p/trash/${id}`);
  } else await agent.ok('DELETE', copy);
  await agent.ok('DELETE', `${volume}?deleteSnapshots=true`);
}

/** What is held while nothing is done. */
async function settled(pid: number, directory: string): Promise<Record<string, string[]>> {
  for (let last = holdings(pid, directory); ; ) {
    await sleep(1000);
    const now = holdings(pid, directory);
    if (isDeepStrictEqual(now, last)) return now;
    last = now;
  }
}

/** Runs the rounds, and compares what is there afterwards with what was there before. */
export async function leaksNothing(agent: TestAgent, kind: Kind, directory: string): Promise<void> {
  const rounds = Math.max(WARM_UP, Math.round(ROUNDS * kind.share));
  for (let count = 0; count < WARM_UP; count++) await round(agent, kind, count);
  const before = await settled(agent.pid, directory);
  const beforeKiB = residentKiB(agent.pid);
  const began = performance.now();
  for (let count = 0; count < rounds; count++) await round(agent, kind, count);
  const seconds = (performance.now() - began) / 1000;
  const moreKiB = residentKiB(agent.pid) - beforeKiB;
  process.stdout.write(
    `${kind.name}: ${rounds} rounds in ${seconds.toFixed(0)} s, ${(seconds / rounds).toFixed(3)} s each; resident ${moreKiB} KiB more\n`,
  );
  const end = performance.now() + SETTLED_MS;
  while (performance.now() < end && !isDeepStrictEqual(holdings(agent.pid, directory), before))
    await sleep(200);
  assert.deepEqual(holdings(agent.pid, directory), before);
  assert.deepEqual(await agent.ok('GET', '/pools/p/volumes?limit=10'), []);
  assert.deepEqual(await agent.ok('GET', '/pools/p/trash'), []);
  assert.ok(moreKiB < MOST_MORE_KIB, `${moreKiB} KiB more`);
}
