import assert from 'node:assert/strict';
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStore } from '../../controller/store/store.ts';
import { execute, TestController } from '../support/controller.ts';
import { newPostgresDatabase } from '../support/postgres.ts';
import { scratch } from '../support/scratch.ts';

const copy = (data: string, target: string) =>
  execute(process.execPath, ['controller/main.ts', '--data', data, 'store', 'copy'], {
    ...process.env,
    STOWAGE_STORE: target,
  });

test('a controller moves from SQLite to PostgreSQL with everything, and goes on there', async () => {
  await using room = scratch();
  const data = join(room.path, 'data');
  const target = await newPostgresDatabase();
  {
    await using controller = await TestController.start(data, []);
    for (const name of ['a', 'b', 'c'])
      await controller.cliOk('vol', 'create', `local/default/${name}`, '--capacity', '1M');
    await controller.cliOk('vol', 'clone', 'local/default/a', 'd');
    await controller.cliOk('token', 'create', 'watch', '--role', 'viewer', '--scope', 'local');
    // While a controller works with it the store is not copied.
    const busy = await copy(data, target);
    assert.equal(busy.status, 1);
    assert.match(busy.stderr, /another controller works with/);
  }
  const done = await copy(data, target);
  assert.equal(done.status, 0, done.stderr);
  assert.match(done.stdout, /the trail is whole: \d+ records/);
  assert.match(done.stdout, /^ +4 {2}volumes$/m);

  const moved = join(data, 'stowage.db.moved');
  assert.ok(!existsSync(join(data, 'stowage.db-wal')), 'all of it was in the file that was moved');
  const from = await openStore(moved);
  const to = await openStore(target);
  for (const table of [
    'hosts',
    'pools',
    'volumes',
    'jobs',
    'job_steps',
    'lease_tokens',
    'tokens',
    'audit',
  ] as const) {
    const rows = async (store: typeof from) =>
      (await store.db.selectFrom(table).selectAll().execute()).map((row) => JSON.stringify(row)).sort();
    assert.deepEqual(await rows(to), await rows(from), table);
  }
  await from.close();
  await to.close();

  renameSync(moved, join(data, 'stowage.db'));
  const again = await copy(data, target);
  assert.equal(again.status, 1);
  assert.match(again.stderr, /the store to copy to has hosts already/);

  await using controller = await TestController.start(data, [], { STOWAGE_STORE: target });
  const second = await execute(
    process.execPath,
    ['controller/main.ts', '--data', join(room.path, 'other'), '--listen', '127.0.0.1:0', '--no-local-agent'],
    { ...process.env, STOWAGE_STORE: target },
  );
  assert.equal(second.status, 1);
  assert.match(second.stderr, /another controller works with this store/);
  const { id } = JSON.parse(await controller.cliOk('--json', 'vol', 'clone', 'local/default/a', 'e')) as {
    id: number;
  };
  assert.equal((await controller.ended(id)).state, 'done');
  await controller.kill('SIGKILL');
  await controller.restart();
  assert.match(
    await controller.cliOk('-o', 'name', 'vol', 'list'),
    /local\/default\/a\n(.*\n)*local\/default\/e/,
  );
  assert.match(await controller.cliOk('audit', 'verify'), /the trail is whole/);
});
