import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from '../../shared/conf/pool.ts';
import type { Finding, Volume } from '../../shared/conf/volume.ts';
import { TestAgent } from '../support/agent.ts';
import { until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const ROUNDS = Number(process.env.STOWAGE_KILL_ROUNDS ?? 8);
const NAMES = ['a', 'b', 'c', 'd', 'e'];
const FORMATS = ['raw', 'qcow2', 'ploop'];

/** Numbers that a seed gives again: xorshift. */
function random(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** One thing that somebody may do to a volume of pool `p`, whatever comes of it. */
async function act(agent: TestAgent, below: (limit: number) => number): Promise<void> {
  const [name, other, format] = [NAMES[below(5)]!, NAMES[below(5)]!, FORMATS[below(3)]!];
  const volume = `/pools/p/volumes/${name}`;
  const capacityBytes = (8 + below(24)) * MIB;
  switch (below(12)) {
    case 0:
    case 1:
      await agent.call('POST', '/pools/p/volumes', { name, format, capacityBytes });
      return;
    case 2:
      await agent.call('DELETE', `${volume}?deleteSnapshots=true`);
      return;
    case 3:
      await agent.call('POST', `${volume}/clone`, { name: other });
      return;
    case 4:
      await agent.call('POST', `${volume}/resize`, { capacityBytes: capacityBytes + 8 * MIB });
      return;
    case 5: {
      const { body } = await agent.call<{ id: string; current: boolean }[]>('GET', `${volume}/snapshots`);
      const [snapshot] = Array.isArray(body) ? body.filter(({ current }) => !current) : [];
      if (snapshot) await agent.call('DELETE', `${volume}/snapshots/${encodeURIComponent(snapshot.id)}`);
      else await agent.call('POST', `${volume}/snapshots`, {});
      return;
    }
    case 6:
      await agent.call('POST', `${volume}/wipe`, {});
      return;
    case 7:
      await agent.call('POST', `${volume}/rename`, { name: other });
      return;
    case 8:
      await agent.call('PUT', `${volume}/base`, { isBase: below(3) > 0 });
      return;
    case 9:
    case 10:
      await agent.call('POST', `${volume}/clone`, { name: other, linked: true });
      return;
    default: {
      const id = randomUUID();
      const bytes = randomBytes((1 + below(4)) * MIB);
      const parts = [{ name: '', sizeBytes: bytes.length, dense: false }];
      const spec = { id, pool: 'p', volume: name, format, representation: 'content', parts };
      await agent.call('POST', '/transfers', { ...spec, replace: below(2) === 0 });
      await agent.call('PUT', `/transfers/${id}/bytes?offset=0`, bytes);
      await agent.call('POST', `/transfers/${id}/commit`, {});
    }
  }
}

test('an agent that is killed at any moment leaves sound volumes, their ids, and nothing else', async () => {
  const seed = Number(process.env.STOWAGE_KILL_SEED ?? Date.now() % 1_000_000);
  const below = random(seed);
  await using room = scratch();
  const target = join(room.path, 'pool');
  mkdirSync(target);
  await using agent = await TestAgent.start(join(room.path, 'state'));
  await agent.ok('POST', '/pools', { name: 'p', type: 'dir', target: { path: target } });
  await agent.ok('POST', '/pools/p/start');
  // A volume that nobody touches.
  await agent.ok('POST', '/pools/p/volumes', { name: 'kept', capacityBytes: 4 * MIB });
  const kept = await agent.ok<Volume>('GET', '/pools/p/volumes/kept');
  const content = digest(await agent.ok<Buffer>('GET', '/pools/p/volumes/kept/data'));
  for (let round = 1; round <= ROUNDS; round++) {
    let stop = false;
    const workers = Array.from({ length: 3 }, async () => {
      while (!stop) await act(agent, below).catch(() => sleep(5));
    });
    await sleep(150 + below(900));
    await agent.kill();
    stop = true;
    await Promise.all(workers);
    await agent.restart();
    const what = `seed ${seed}, round ${round}`;
    await until(`the pool to run: ${what}`, async () => {
      const pool = await agent.ok<Pool>('GET', '/pools/p');
      assert.notEqual(pool.state, 'inaccessible', `${what}: ${pool.reason}`);
      return pool.state === 'running';
    });
    const all = await agent.ok<Volume[]>('GET', '/pools/p/volumes');
    const ids = new Set(all.map(({ id }) => id));
    assert.equal(ids.size, all.length, `${what}: an id is there twice`);
    for (const volume of all) {
      assert.equal(volume.damaged, undefined, `${what}: ${volume.name}`);
      assert.ok(
        volume.parentId === undefined || ids.has(volume.parentId),
        `${what}: ${volume.name} has no base`,
      );
      if (volume.backingStore) await agent.ok('GET', `/pools/p/volumes/${volume.name}/data?as=content`);
      if (volume.isBase) continue;
      if (volume.format === 'raw') continue;
      const findings = await agent.ok<Finding[]>('POST', `/pools/p/volumes/${volume.name}/check`, {});
      // A mark that a killed change left is taken back by the next one.
      const fatal = findings.filter((finding) => finding.fatal && finding.problem !== 'in-use');
      assert.deepEqual(fatal, [], `${what}: ${volume.name} (${volume.format})`);
    }
    assert.equal((await agent.ok<Volume>('GET', '/pools/p/volumes/kept')).id, kept.id, what);
    assert.equal(digest(await agent.ok<Buffer>('GET', '/pools/p/volumes/kept/data')), content, what);
    for (const kind of ['new', 'trash'])
      await until(
        `${kind} to be empty: ${what}`,
        () => readdirSync(join(target, '.stowage', kind)).length === 0,
      );
    for (const { id } of await agent.ok<{ id: string }[]>('GET', '/transfers'))
      await agent.ok('DELETE', `/transfers/${id}`);
    assert.deepEqual(readdirSync(join(target, '.stowage/stages')), [], what);
  }
});
