import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, renameSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { AgentEvent } from '../../shared/protocol/agent.ts';
import { until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

// Before the modules that read it: storage counts as away soon, and is looked at often.
process.env.STOWAGE_STORAGE_TIMEOUT_MS = '500';
const { loadBackends } = await import('../../agent/backends/registry.ts');
const { Pools } = await import('../../agent/pools/pools.ts');
const { AgentState } = await import('../../agent/state.ts');
const { poolDefinitionSchema } = await import('../../shared/conf/pool.ts');

async function poolsIn(directory: string) {
  const state = await AgentState.open(directory);
  const pools = await Pools.open(state, await loadBackends(undefined));
  return {
    pools,
    async [Symbol.asyncDispose]() {
      pools.close();
      await state[Symbol.asyncDispose]();
    },
  };
}

const definition = (more: object) => poolDefinitionSchema.parse({ name: 'p', uuid: randomUUID(), ...more });

const volume = (name: string) => ({
  name,
  capacityBytes: 1 << 20,
  format: 'raw' as const,
  preallocate: false,
});

describe('the life of a pool', () => {
  test('a directory of the system is no pool, by whatever name; one below a place for data is', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const etc = join(room.path, 'link-to-etc');
    symlinkSync('/etc', etc);
    for (const path of ['/etc', '/etc/pool', '/usr/bin', '/dev', '/var', etc])
      await assert.rejects(host.pools.define(definition({ type: 'dir', target: { path } })), {
        code: 'invalid-argument',
      });
    const path = '/usr/local/stowage-test-that-is-not-there';
    await host.pools.define(definition({ type: 'dir', target: { path } }));
    await host.pools.undefine('p');
  });

  test('storage that was away and is back shows its volumes, and tells only what differs', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const { pools } = host;
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await pools.define(definition({ type: 'dir', target: { path } }));
    await pools.start('p');
    const operations = await pools.operations('p');
    const { id } = await operations.create(volume('v'));
    const told: AgentEvent[] = [];
    pools.on('event', (event) => {
      if (event.type !== 'pool') told.push(event);
    });
    renameSync(path, `${path}.away`);
    mkdirSync(path);
    await until('the pool to change', () => pools.get('p').state === 'inaccessible');
    // Several tries come to nothing meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.deepEqual(
      pools.page('p', undefined, 10).map((each) => each.id),
      [id],
      'what was known stays known',
    );
    rmdirSync(path);
    renameSync(`${path}.away`, path);
    await until('the pool to change', () => pools.get('p').state === 'running');
    assert.deepEqual(
      pools.page('p', undefined, 10).map((each) => each.id),
      [id],
    );
    assert.deepEqual(
      told.filter((event) => event.type !== 'volumes' || event.volumes.length + event.gone.length > 0),
      [],
    );
    // It is watched where it is now.
    await operations.create(volume('w'));
    assert.deepEqual([...pools.volumes('p').keys()].sort(), ['v', 'w']);
  });

  test('a volume that goes and comes back as a link, between two looks, harms no other', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const { pools } = host;
    const path = join(room.path, 'pool');
    mkdirSync(path);
    await pools.define(definition({ type: 'dir', target: { path } }));
    await pools.start('p');
    const operations = await pools.operations('p');
    for (const name of ['a', 'b', 'c']) await operations.create(volume(name));
    let swapped = false;
    const states: string[] = [];
    pools.on('event', (event) => {
      if (event.type === 'pool') states.push(event.pool.state);
      const first = event.type === 'volumes' && event.gone.find(({ name }) => name !== 'c');
      if (swapped || !first) return;
      // On a busy machine a look may have passed one of them before they were removed: either may be told of first.
      symlinkSync('/etc/hostname', join(path, first.name === 'a' ? 'b' : 'a'));
      swapped = true;
    });
    for (const name of ['a', 'b']) rmSync(join(path, name));
    await until('both to be gone', () => !['a', 'b'].some((name) => pools.volumes('p').has(name)));
    assert.ok(swapped);
    assert.deepEqual(
      states.filter((state) => state !== 'running'),
      [],
    );
    assert.deepEqual([...pools.volumes('p').keys()], ['c']);
  });

  test('a start that hangs is stopped, and its pool can be undefined', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const { pools } = host;
    const configOptions = [{ name: 'fault.start', value: 'hang' }];
    await pools.define(definition({ type: 'test', configOptions }));
    const starting = pools.start('p');
    starting.catch(() => undefined);
    await until('the start to begin', () => pools.get('p').state === 'building');
    assert.equal((await pools.stop('p')).state, 'inactive');
    await assert.rejects(starting, { code: 'pool-inactive' });
    // Also in its first moment, before the storage is asked for anything.
    const early = pools.start('p');
    early.catch(() => undefined);
    while (pools.get('p').state !== 'building') await setImmediate();
    assert.equal((await pools.stop('p')).state, 'inactive');
    await assert.rejects(early, { code: 'pool-inactive', message: /being stopped/ });
    // The first start hangs still: however often it is tried, no other one begins beside it.
    for (let tries = 0; tries < 2; tries++)
      await assert.rejects(pools.start('p'), { code: 'pool-inaccessible', message: /still busy/ });
    const again = pools.start('p');
    again.catch(() => undefined);
    await pools.undefine('p');
    assert.deepEqual(pools.list(), []);
  });

  test('a start that does not get on ends by itself', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const { pools } = host;
    const configOptions = [{ name: 'fault.start', value: 'hang' }];
    await pools.define(definition({ type: 'test', configOptions }));
    await assert.rejects(pools.start('p'), { code: 'pool-inaccessible' });
    assert.equal(pools.get('p').state, 'inactive');
  });

  test('a pool that goes while everything is told is left out', async () => {
    await using room = scratch();
    await using host = await poolsIn(join(room.path, 'state'));
    const { pools } = host;
    for (const name of ['a', 'b']) await pools.define(definition({ name, uuid: randomUUID(), type: 'test' }));
    const lines = pools.snapshot();
    lines.next();
    await pools.undefine('b');
    const rest = [...lines];
    assert.deepEqual(
      rest.flatMap((line) => (line.type === 'pool' ? [line.pool.name] : [])),
      ['a'],
    );
  });

  test('two agents do not work with one state', async () => {
    await using room = scratch();
    await using _state = await AgentState.open(room.path);
    await assert.rejects(AgentState.open(room.path, 100), { code: 'host-in-use' });
  });
});
