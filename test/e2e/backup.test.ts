import assert from 'node:assert/strict';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { execute, TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

/** A backup of a controller that works, and a controller made of it. */
describe('backup and restore', () => {
  const room = scratch();
  let controller: TestController;
  const run = (data: string, ...args: string[]) =>
    execute(process.execPath, ['controller/main.ts', '--data', data, ...args]);

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), []);
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('what is saved while others write is whole, and is the same controller elsewhere', async () => {
    await controller.cliOk('token', 'create', 'kept', '--role', 'viewer', '-q');
    await controller.cliOk('user', 'invite', 'ada', '--role', 'admin');
    let isWriting = true;
    const writing = (async () => {
      for (let index = 0; isWriting; index++)
        await controller.api('/tokens', { name: `t${index}`, role: 'viewer', scopes: [] });
    })();
    const saved = join(room.path, 'saved');
    const made = await run(controller.directory, 'backup', saved);
    isWriting = false;
    await writing;
    assert.equal(made.status, 0, made.stderr);
    const records = Number(/(\d+) records/.exec(made.stdout)![1]);
    assert.ok(records > 5);
    assert.equal(statSync(saved).mode & 0o777, 0o700);
    for (const name of readdirSync(saved)) assert.equal(statSync(join(saved, name)).mode & 0o077, 0, name);
    assert.ok(!readdirSync(saved).some((name) => /-(wal|shm|journal)$/.test(name)), 'one file');

    const data = join(room.path, 'restored');
    const restored = await run(data, 'restore', saved);
    assert.equal(restored.status, 0, restored.stderr);
    await using other = await TestController.start(data);
    assert.equal(
      readFileSync(join(data, 'controller-id'), 'utf8'),
      readFileSync(join(controller.directory, 'controller-id'), 'utf8'),
    );
    assert.match(await other.cliOk('token', 'list'), /kept/);
    assert.match(await other.cliOk('audit', 'verify'), /the trail is whole/);
    assert.equal(other.token, controller.token, 'the token of the administrator is the same');
  });

  test('of two backups at once into one directory one is whole, and the other is refused', async () => {
    const saved = join(room.path, 'at-once');
    const both = await Promise.all([1, 2].map(() => run(controller.directory, 'backup', saved)));
    assert.deepEqual(both.map(({ status }) => status).sort(), [0, 1]);
    assert.match(both.map(({ stderr }) => stderr).join(), /made by somebody else meanwhile|is not empty/);
    assert.equal((await run(join(room.path, 'of-one'), 'restore', saved)).status, 0);
    assert.ok(!readdirSync(room.path).some((name) => name.includes('.unfinished')));
  });

  test('a controller whose keys are lost does not start, nor is it saved, until somebody says that it shall', async () => {
    const data = join(room.path, 'lost');
    const copy = await run(data, 'restore', join(room.path, 'saved'));
    assert.equal(copy.status, 0, copy.stderr);
    const start = (...args: string[]) =>
      run(data, '--no-local-agent', '--listen', '127.0.0.1:1', '--no-command', ...args);
    const keys = join(data, 'audit-key.pem');
    renameSync(keys, `${keys}.away`);
    const refused = await start();
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /audit-key\.pem is missing.*--accept-keys/);
    assert.ok(!existsSync(keys), 'none was made');
    assert.match(
      (await run(data, 'backup', join(room.path, 'of-lost'))).stderr,
      /cannot be used: audit-key\.pem is missing/,
    );
    // Another one is no better.
    copyFileSync(join(data, 'link-key.pem'), keys);
    assert.match((await start()).stderr, /has not signed the newest record/);
    rmSync(keys);
    await using other = await TestController.start(data, ['--no-local-agent', '--accept-keys']);
    assert.match(await other.cliOk('audit', 'list'), /controller\.accept-keys.*audit-key\.pem is missing/);
    await other.kill('SIGTERM');
    const again = await TestController.start(data);
    await again[Symbol.asyncDispose]();
  });

  test('a token of the administrator that was revoked does not come back while there is another', async () => {
    const data = join(room.path, 'revoked');
    await using other = await TestController.start(data);
    const ops = (await other.cliOk('token', 'create', 'ops', '--role', 'admin', '-q')).trim();
    assert.equal((await other.cliAs(ops, 'token', 'revoke', 'admin')).status, 0);
    await other.kill('SIGTERM');
    await other.restart();
    const list = await other.cliAs(ops, 'token', 'list', '-q');
    assert.equal(list.stdout, 'ops\n');
    const here = await execute('node', ['controller/cli/stowage.ts', 'pool', 'list'], {
      ...process.env,
      STOWAGE_DATA: data,
    });
    assert.match(here.stderr, /was revoked: set STOWAGE_TOKEN/);
    assert.equal(here.status, 5);
  });

  test('nothing is overwritten, and what is not whole is not restored', async () => {
    const saved = join(room.path, 'second');
    await run(controller.directory, 'backup', saved);
    const twice = await run(controller.directory, 'backup', saved);
    assert.notEqual(twice.status, 0);
    assert.match(twice.stderr, /is not empty/);
    const full = await run(controller.directory, 'restore', saved);
    assert.match(full.stderr, /is not empty/);
    assert.ok(existsSync(join(controller.directory, 'stowage.db')));

    const none = join(room.path, 'none');
    mkdirSync(none);
    assert.match((await run(join(room.path, 'x'), 'restore', none)).stderr, /is no backup/);
    assert.match((await run(none, 'backup', join(room.path, 'y'))).stderr, /there is no store/);
    for (const files of [{ '../x': 'y' }, { '..': 'y', 'stowage.db': 'y' }, { 'audit-key.pem': 'y' }, {}]) {
      const manifest = { version: '0', madeAt: 1, files, records: 1 };
      writeFileSync(join(none, 'manifest.json'), JSON.stringify(manifest));
      const refused = await run(join(room.path, 'x'), 'restore', none);
      assert.match(
        refused.stderr,
        /is no backup/,
        `${Object.keys(files)}: nothing but keys and store, and no backup without one`,
      );
    }

    appendFileSync(join(saved, 'stowage.db'), 'x');
    const torn = await run(join(room.path, 'torn'), 'restore', saved);
    assert.match(torn.stderr, /is not as it was when the backup was made/);
    assert.ok(!existsSync(join(room.path, 'torn')));
  });
});
