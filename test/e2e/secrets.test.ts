import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { FleetPool, HostDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { type IscsiTarget, startTarget } from '../support/tgt.ts';

const PASSWORD = 'kept-very-secret-4711';
const OTHER = 'another-secret-0815';

/** All bytes of all files below a directory. */
function bytesBelow(directory: string): Buffer[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true }).flatMap((entry) => {
    const path = join(entry.parentPath, entry.name);
    return entry.isFile() && statSync(path).size < 64 << 20 ? [readFileSync(path)] : [];
  });
}

/** The arguments and environments of all processes, but for this one's. */
function processes(): string {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap((pid) =>
      ['cmdline', 'environ'].map((file) => {
        try {
          return readFileSync(`/proc/${pid}/${file}`, 'utf8');
        } catch {
          // It has ended.
          return '';
        }
      }),
    )
    .join('\n');
}

describe('secrets of storage', { skip: isRoot ? false : 'a target of iSCSI needs root' }, () => {
  const room = scratch();
  let controller: TestController;
  let target: IscsiTarget;

  before(async () => {
    target = await startTarget(room.path, [16]);
    target.admin('--op', 'new', '--mode', 'account', '--user', 'ann', '--password', PASSWORD);
    target.admin('--op', 'bind', '--mode', 'account', '--tid', '1', '--user', 'ann');
    controller = await TestController.start(join(room.path, 'controller'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await target?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const pool = (name: string, usage: string) => ({
    name,
    type: 'iscsi-direct',
    source: {
      hosts: [target.portal],
      devices: [{ path: target.iqn }],
      initiatorIqn: 'iqn.2026-01.test:secrets',
      auth: { type: 'chap', username: 'ann', secret: { usage } },
    },
    build: false,
  });
  const make = (name: string, usage: string) =>
    controller.api<FleetPool>('/hosts/local/pools', pool(name, usage));
  const shown = (name: string) => controller.api<FleetPool>(`/hosts/local/pools/${name}`);
  function define(usage: string, value: string, ...places: string[]) {
    const args = ['secret', 'define', 'iscsi', usage, ...places.flatMap((place) => ['--for', place])];
    return spawnSync(process.execPath, ['controller/cli/stowage.ts', ...args], {
      input: `${value}\n`,
      encoding: 'utf8',
      env: { ...process.env, STOWAGE_URL: controller.url, STOWAGE_TOKEN: controller.token },
    });
  }

  test('a pool without its secret, with a wrong one, or with one of others does not start', async () => {
    await assert.rejects(make('p', 'nas'), /secret-missing|waits for its secret/);
    assert.equal(define('nas', OTHER, 'local').status, 0);
    await assert.rejects(make('p', 'nas'), /refuses the login|pool-inaccessible/);
    assert.equal(define('nas', PASSWORD, 'local/other').status, 0);
    await assert.rejects(make('p', 'nas'), /is not for pool/);
    assert.equal(define('nas', PASSWORD).status, 2, 'who may have it must be said');
  });

  test('with it the pool runs, also after a new value, and comes back by itself after its agent was killed', async () => {
    assert.equal(define('nas', PASSWORD, 'local/p').status, 0);
    assert.equal((await make('p', 'nas')).state, 'running');
    assert.equal((await controller.api<unknown[]>(`/volumes?host=local`)).length, 1);
    const { agent } = await controller.api<HostDetails>('/hosts/local');
    const killedAt = Date.now();
    process.kill(agent!.pid, 'SIGKILL');
    await until('the pool is back', async () => {
      const { state, since } = await shown('p');
      return state === 'running' && since! > killedAt;
    });
    await controller.api<FleetPool>('/hosts/local/pools/p/refresh', {});
    const trail = await controller.cliOk('audit', 'list');
    assert.match(trail, /secret\.give +local\/p +done +iscsi nas/);
  });

  test('nobody is told it, and it is nowhere but sealed', async () => {
    const [secret] = await controller.api<Record<string, unknown>[]>('/secrets');
    assert.deepEqual(Object.keys(secret!).sort(), ['changedAt', 'id', 'kind', 'scopes', 'usage']);
    const told = [
      await controller.cliOk('audit', 'export'),
      await controller.cliOk('pool', 'show', 'local/p', '--json'),
      await controller.cliOk('pool', 'dumpxml', 'local/p'),
      controller.log,
      processes(),
    ].join('\n');
    for (const value of [PASSWORD, OTHER]) {
      assert.ok(!told.includes(value));
      for (const bytes of bytesBelow(controller.directory)) assert.ok(!bytes.includes(value));
    }
    assert.equal(statSync(join(controller.directory, 'secrets-key')).mode & 0o777, 0o600);
  });

  test('a secret that is deleted is given to nobody any more', async () => {
    const [secret] = await controller.api<{ id: string }[]>('/secrets');
    await controller.cliOk('secret', 'delete', secret!.id, '--yes');
    await controller.cliOk('pool', 'stop', 'local/p');
    const refused = await controller.cli('pool', 'start', 'local/p');
    assert.match(refused.stderr, /secret-missing/);
    const again = await controller.cli('secret', 'delete', secret!.id, '--yes');
    assert.equal(again.status, 3);
  });
});
