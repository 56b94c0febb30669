import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadBackends } from '../../agent/backends/registry.ts';
import { Pools } from '../../agent/pools/pools.ts';
import { AgentState } from '../../agent/state.ts';
import { scratch } from '../support/scratch.ts';

test('what is no volume is told with what is known of it, and stays; volumes and work under way are not told', async () => {
  await using room = scratch();
  const path = join(room.path, 'pool');
  mkdirSync(path);
  await using state = await AgentState.open(join(room.path, 'state'));
  const pools = await Pools.open(state, await loadBackends(undefined));
  await pools.define({
    name: 'p',
    uuid: randomUUID(),
    type: 'dir',
    source: { hosts: [], devices: [] },
    target: { path },
    autostart: false,
  });
  await pools.start('p');
  const operations = await pools.operations('p');
  const volume = { capacityBytes: 1 << 20, format: 'raw' as const, preallocate: false };
  await operations.create({ ...volume, name: 'v' });
  await operations.create({ ...volume, name: 'ct', format: 'ploop' });
  await operations.create({ ...volume, name: 'gone' });
  const trashed = await pools.trash('p', (trash, pool) => trash.add(pool, 'gone', { keepUntil: 0 }));
  await using _stage = await operations.stage({
    id: randomUUID(),
    pool: 'p',
    volume: 'coming',
    format: 'raw',
    representation: 'content',
    parts: [{ name: '', sizeBytes: 10, dense: false }],
    replace: false,
    allowUsed: false,
    digest: 'gmac',
  });
  assert.deepEqual(await pools.orphans('p'), [], 'nothing but volumes, the trash, and a transfer');

  mkdirSync(join(path, 'empty'));
  writeFileSync(join(path, '.base'), 'x');
  symlinkSync('/etc/passwd', join(path, 'link'));
  const other = join(path, '.stowage/hosts', 'another-agent', 'new');
  mkdirSync(other, { recursive: true });
  writeFileSync(join(other, 'half'), Buffer.alloc(100_000, 1));
  writeFileSync(join(path, '.stowage/kept/000000000000'), 'no record');
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    join(path, '.base'),
    '-F',
    'raw',
    join(path, 'over'),
    '1M',
  ]);
  await pools.refresh('p');
  const found = await pools.orphans('p');
  assert.deepEqual(
    found.map((orphan) => orphan.path.slice(path.length + 1)).sort(),
    ['.base', '.stowage/hosts/another-agent/new/half', '.stowage/kept/000000000000', 'empty', 'link'].sort(),
  );
  const named = (name: string) => found.find((orphan) => orphan.path.endsWith(name))!;
  assert.deepEqual(named('.base').users, ['volume p/over']);
  assert.equal(named('half').agentId, 'another-agent');
  assert.ok(named('half').allocationBytes! >= 100_000);
  assert.ok(Math.abs(named('half').modifiedAt! - Date.now()) < 60_000);
  assert.equal((await pools.trash('p', (trash, pool) => trash.list(pool)))[0]?.id, trashed.id);
  // A tree of more entries than are counted has no size here; everything else is told as before.
  const large = join(path, 'large');
  mkdirSync(large);
  for (let index = 0; index <= 20_000; index++) linkSync(join(path, '.base'), join(large, `${index}`));
  const again = await pools.orphans('p');
  assert.equal(again.length, found.length + 1);
  assert.equal(again.find((orphan) => orphan.path === large)!.allocationBytes, undefined);
  await pools.stop('p');
  await pools.close();
});
