import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountAt } from '../../agent/host/mounts.ts';
import type { Pool } from '../../shared/conf/pool.ts';
import { TestAgent } from '../support/agent.ts';
import { until } from '../support/controller.ts';
import { startHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';

/** The process that answers for a mounted directory. */
function fuseProcess(target: string): number {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      if (line[0]?.endsWith('sshfs') && line.includes(target)) return Number(pid);
    } catch {
      // it has ended meanwhile
    }
  }
  throw new Error(`nobody answers for ${target}`);
}

test('storage that stops answering stops only its own pool, which comes back by itself', {
  skip: isRoot ? false : 'only root may mount',
}, async () => {
  await using room = scratch();
  await using server = await startHost(join(room.path, 'server'));
  const [state, dir, target] = ['state', 'dir', 'mounted'].map((name) => join(room.path, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(join(room.path, 'export'));
  mkdirSync(dir);
  await using agent = await TestAgent.start(state, { STOWAGE_STORAGE_TIMEOUT_MS: '1500' });
  const api = <T>(method: string, path: string, json?: unknown): Promise<T> => agent.ok(method, path, json);
  const pool = (): Promise<Pool> => api<Pool>('GET', '/pools/far');
  let frozen: number | undefined;
  try {
    await api('POST', '/pools', { name: 'near', type: 'dir', target: { path: dir } });
    await api('POST', '/pools', {
      name: 'far',
      type: 'netfs',
      target: { path: target },
      source: { hosts: [{ name: server.address }], dir: join(room.path, 'export'), format: 'sshfs' },
      mountOptions: [
        `port=${server.port}`,
        `IdentityFile=${server.identity}`,
        'StrictHostKeyChecking=no',
        'UserKnownHostsFile=/dev/null',
      ],
    });
    for (const name of ['near', 'far']) await api('POST', `/pools/${name}/start`);
    const { id } = await api<{ id: string }>('POST', '/pools/far/volumes', {
      name: 'v',
      capacityBytes: 4096,
    });

    frozen = fuseProcess(target);
    process.kill(frozen, 'SIGSTOP');
    // As many as Node has threads, and more: none of them may be the agent's.
    const hanging = Array.from({ length: 8 }, (_, index) =>
      api('POST', '/pools/far/volumes', { name: `w${index}`, capacityBytes: 4096 }).then(
        () => 'made',
        (error: Error) => error.message,
      ),
    );
    for (let round = 0; round < 5; round++) {
      await api('POST', '/pools/near/volumes', { name: `n${round}`, capacityBytes: 4096 });
      await api('GET', '/info');
    }
    const lost = await until('the pool is inaccessible', async () => {
      const now = await pool();
      return now.state === 'inaccessible' && now;
    });
    // The second, when it was tried again by then.
    assert.match(lost.reason ?? '', /has not answered for|does not answer/);
    for (const answer of await Promise.all(hanging)) assert.match(answer, /pool-inaccessible/);

    process.kill(frozen, 'SIGCONT');
    await until('the pool runs again', async () => (await pool()).state === 'running');
    assert.equal((await api<{ id: string }>('GET', '/pools/far/volumes/v')).id, id);

    process.kill(frozen, 'SIGSTOP');
    await until('the pool is inaccessible again', async () => (await pool()).state === 'inaccessible');
    await api('POST', '/pools/far/stop');
    assert.equal(mountAt(target), undefined, 'its mount point is free');
    await api('DELETE', '/pools/far');
    await api('GET', '/info');
  } finally {
    if (frozen) process.kill(frozen, 'SIGCONT');
    try {
      execFileSync('umount', ['-l', target], { stdio: 'ignore' });
    } catch {
      // the pool was stopped, and nothing is mounted
    }
  }
});
