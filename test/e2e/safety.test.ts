import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { WebSocket } from 'ws';
import { execute, TestController } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('what a hand that slips does not do', () => {
  const room = scratch();
  let controller: TestController;
  const file = (name: string): string => join(room.path, name);

  before(async () => {
    controller = await TestController.start(file('data'), []);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file('image.qcow2'), '64M']);
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', file('image.vmdk'), '64M']);
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('a second controller does not start on the data of one that runs', async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    const args = ['controller/main.ts', '--data', file('data'), '--listen', listen, '--no-local-agent'];
    const { status, stderr } = await execute(process.execPath, args);
    assert.equal(status, 1);
    assert.match(stderr, /another controller works with .* \(process \d+\)/);
  });

  test('the last administrator stays; a revoked token of the machine is made anew only when nobody else is one', async () => {
    assert.match(await controller.cliRefused('last-admin', 'token', 'revoke', 'admin'), /make another one/);
    const second = JSON.parse(
      await controller.cliOk('--json', 'token', 'create', 'second', '--role', 'admin'),
    );
    await controller.cliOk('token', 'revoke', 'admin');
    assert.equal((await controller.cli('token', 'list')).status, 5);
    assert.equal((await controller.cliAs(second.secret, 'token', 'list')).status, 0);
    await controller.kill('SIGTERM');
    await controller.restart();
    assert.equal((await controller.cli('token', 'list')).status, 5, 'whoever revoked it meant it');
    // One that expires lets nobody in any more.
    const [expired] = (await controller.cliAs(second.secret, 'token', 'list', '-q')).stdout.split('\n');
    assert.equal(expired, 'second');
    await controller.kill('SIGTERM');
    const store = new Database(file('data/stowage.db'));
    store.prepare("UPDATE tokens SET expires_at = 1 WHERE name = 'second'").run();
    store.close();
    await controller.restart();
    await controller.cliOk('token', 'list');
    await controller.cliOk('token', 'revoke', 'second');
  });

  test('whoever tries tokens is slowed, and fills no trail; others are let in from the same place', async () => {
    const answers: number[] = [];
    for (let attempt = 0; attempt < 60; attempt++)
      answers.push((await controller.fetch('/hosts', { token: `stow_wrong${attempt}` })).status);
    assert.deepEqual([...new Set(answers)], [401, 429]);
    await controller.cliOk('host', 'list');
    const trail: { outcome: string; detail: string }[] = await controller.api('/audit?limit=200');
    const refused = trail.filter(
      ({ outcome, detail }) => outcome === 'refused' && /token is unknown/.test(detail),
    );
    assert.ok(refused.length <= 22, `${refused.length} records`);
  });

  test('with a revoked token end its events and what is being read with it', async () => {
    const { secret } = JSON.parse(
      await controller.cliOk('--json', 'token', 'create', 'reader', '--role', 'viewer'),
    );
    await controller.cliOk('vol', 'create', 'local/default/large', '--capacity', '2G');
    const events = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    await once(events, 'open');
    const closed = once(events, 'close');
    const download = await controller.fetch('/hosts/local/pools/default/volumes/large/data', {
      token: secret,
    });
    const reader = download.body!.getReader();
    await reader.read();
    await controller.cliOk('token', 'revoke', 'reader');
    await closed;
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
    await controller.cliOk('vol', 'delete', 'local/default/large');
  });

  test('a list of what is in no pool is an error, not empty', async () => {
    assert.match(await controller.cliRefused('host-not-found', 'vol', 'list', 'nohost'), /nohost/);
    assert.match(await controller.cliRefused('pool-not-found', 'vol', 'list', 'local/nopool'), /nopool/);
  });

  test('an image is not taken for a raw one because nobody said what it is', async () => {
    for (const name of ['image.qcow2', 'image.vmdk']) {
      const words = await controller.cliRefused(
        'invalid-image',
        'vol',
        'upload',
        file(name),
        'local/default/u',
      );
      assert.match(words, /looks like (qcow2|vmdk), and the volume would be raw/);
    }
    const jobs: { kind: string; state: string }[] = JSON.parse(
      await controller.cliOk('--json', 'job', 'list'),
    );
    assert.ok(!jobs.some(({ kind, state }) => kind === 'upload' && state !== 'done'), 'nothing was begun');
    await controller.cliOk('vol', 'upload', file('image.qcow2'), 'local/default/u', '--format', 'qcow2');
    await controller.cliOk('vol', 'upload', file('image.vmdk'), 'local/default/raw', '--format', 'raw');
    writeFileSync(file('plain'), randomBytes(MIB));
    await controller.cliOk('vol', 'upload', file('plain'), 'local/default/plain');
  });

  test('a volume with snapshots is deleted when its snapshots are to go, too', async () => {
    await controller.cliOk('vol', 'snapshot', 'create', 'local/default/u', '--id', 'one');
    assert.match(
      await controller.cliRefused('volume-has-snapshots', 'vol', 'delete', 'local/default/u'),
      /has 1 snapshots/,
    );
    await controller.cliOk('vol', 'delete', 'local/default/u', '--delete-snapshots');
  });

  test('a download that was read to its end is on record as done', async () => {
    for (let round = 0; round < 5; round++)
      await controller.cliOk('vol', 'download', 'local/default/plain', file(`copy-${round}`));
    assert.ok(readFileSync(file('copy-0')).equals(readFileSync(file('plain'))));
    const trail: { action: string; outcome: string; target: string }[] = JSON.parse(
      await controller.cliOk('--json', 'audit', 'list', '--limit', '50'),
    );
    const outcomes = trail
      .filter(({ action, target }) => action.startsWith('volume.download') && target.endsWith('/plain'))
      .map(({ outcome }) => outcome);
    assert.equal(outcomes.filter((outcome) => outcome === 'done').length, 5);
    assert.ok(!outcomes.includes('failed'));
  });

  test('the storage of a pool is built by command', async () => {
    const target = file('built');
    const document = `<pool type='dir'><name>built</name><target><path>${target}</path></target></pool>`;
    writeFileSync(file('pool.xml'), document);
    await controller.cliOk('pool', 'define', 'local', file('pool.xml'));
    assert.match((await controller.cli('pool', 'start', 'local/built')).stderr, /build the pool first/);
    await controller.cliOk('pool', 'build', 'local/built');
    assert.ok(existsSync(target));
    await controller.cliOk('pool', 'start', 'local/built');
  });

  test('volumes of a pool whose storage was away when its agent started stay in the inventory', async () => {
    const target = file('away');
    mkdirSync(target, { mode: 0o755 });
    await controller.cliOk('pool', 'create', 'local/away', '--type', 'dir', '--target', target);
    await controller.cliOk('vol', 'create', 'local/away/v', '--capacity', '1M');
    const list = async (): Promise<{ id: string }[]> =>
      JSON.parse(await controller.cliOk('--json', 'vol', 'list', 'local/away'));
    const [{ id } = { id: '' }] = await list();
    await controller.kill('SIGTERM');
    execFileSync('mv', [target, `${target}.elsewhere`]);
    await controller.restart();
    assert.deepEqual(
      (await list()).map((volume) => volume.id),
      [id],
    );
    execFileSync('mv', [`${target}.elsewhere`, target]);
  });

  test('a lease that an earlier version left behind a job that has ended goes at the next start', async () => {
    await controller.cliOk('vol', 'create', 'local/default/held', '--capacity', '1M');
    const { id: ended } = JSON.parse(
      await controller.cliOk('--json', 'vol', 'clone', 'local/default/held', 'first'),
    ) as { id: number };
    await controller.kill('SIGTERM');
    const database = new Database(join(room.path, 'data/stowage.db'));
    const lease =
      'INSERT INTO leases (volume, mode, token, holder, job_id, acquired_at) VALUES (?, ?, 1, ?, ?, 0)';
    database.prepare(lease).run('local/default/held', 'write', 'one that died', ended);
    database.close();
    await controller.restart();
    await controller.cliOk('vol', 'delete', 'local/default/held');
  });
});
