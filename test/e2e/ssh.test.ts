import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import ssh2 from 'ssh2';
import { TestController, until } from '../support/controller.ts';
import { freePort, startHost, type TestHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';

describe('ways to a host by SSH', () => {
  const room = scratch();
  const home = join(room.path, 'home');
  let agent: { SSH_AUTH_SOCK: string; SSH_AGENT_PID: string };
  let host: TestHost;
  let controller: TestController;

  before(async () => {
    host = await startHost(join(room.path, 'host'));
    const spoken = execFileSync('ssh-agent', ['-s', '-a', join(room.path, 'ssh-agent')], {
      encoding: 'utf8',
    });
    agent = {
      SSH_AUTH_SOCK: join(room.path, 'ssh-agent'),
      SSH_AGENT_PID: /SSH_AGENT_PID=(\d+)/.exec(spoken)![1]!,
    };
    execFileSync('ssh-add', ['-q', host.identity], { env: { ...process.env, ...agent }, stdio: 'pipe' });
    mkdirSync(join(home, '.ssh'), { recursive: true });
    controller = await TestController.start(join(room.path, 'controller'), ['--no-local-agent'], {
      ...agent,
      HOME: home,
    });
  });

  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await host?.[Symbol.asyncDispose]();
    if (agent) process.kill(Number(agent.SSH_AGENT_PID));
    await room[Symbol.asyncDispose]();
  });

  test('an SSH agent lets in where no key file is given', async () => {
    const url = `ssh://${host.user}@${host.address}:${host.port}`;
    const added = await controller.cliOk('host', 'add', 'agent', url, '--fingerprint', host.fingerprint);
    assert.match(added, /state +reachable/);
    await controller.cliOk('host', 'remove', 'agent');
  });

  test('whoever has keys that do not fit gets in by the one that does, and is told what was tried where none does', async () => {
    const url = `ssh://${host.user}@${host.address}:${host.port}`;
    const add = (name: string, ...more: string[]) =>
      controller.cliIn(
        { HOME: home },
        ...['host', 'add', name, url, '--fingerprint', host.fingerprint, ...more],
      );
    const keys = join(home, '.ssh');
    for (const [name, passphrase] of [
      ['id_ed25519', ''],
      ['id_rsa', 'secret'],
    ] as const)
      execFileSync('ssh-keygen', ['-q', '-t', name.slice(3), '-N', passphrase, '-f', join(keys, name)]);
    // Neither is known there; the key of the SSH agent is.
    const { status, stderr } = await add('keys');
    assert.equal(status, 0, stderr);
    await controller.cliOk('host', 'remove', 'keys');
    const given = await add('given', '--identity', join(keys, 'id_ed25519'));
    assert.equal(given.status, 0, given.stderr);
    await controller.cliOk('host', 'remove', 'given');
    // Without an agent, and with one that is gone, the host says what was tried, and the controller goes on.
    for (const SSH_AUTH_SOCK of ['', join(room.path, 'no-agent')]) {
      await using bare = await TestController.start(
        join(room.path, `bare-${SSH_AUTH_SOCK.length}`),
        ['--no-local-agent'],
        {
          SSH_AUTH_SOCK,
          HOME: home,
        },
      );
      const { stderr: words } = await bare.cliIn(
        { HOME: home },
        ...['host', 'add', 'keys', url, '--fingerprint', host.fingerprint, '--no-wait'],
      );
      assert.equal(words, '');
      await until('the reason shows', async () =>
        /none of: .*id_rsa \(it is encrypted.*id_ed25519/.test(await bare.cliOk('host', 'list')),
      );
      const fits = await bare.cliIn(
        { HOME: home },
        ...['host', 'add', 'fits', url, '--fingerprint', host.fingerprint, '--identity', host.identity],
      );
      assert.equal(fits.status, 0, fits.stderr);
    }
    for (const name of ['id_ed25519', 'id_rsa'])
      for (const path of [name, `${name}.pub`]) rmSync(join(keys, path));
  });

  test('a host that lets us in and never answers can be removed, and keeps no controller from ending', async () => {
    const mute = new ssh2.Server(
      { hostKeys: [readFileSync(host.identity)] },
      (client) =>
        void client
          .on('authentication', (context) => context.accept())
          .on('error', () => undefined)
          .on('session', (accept) => void accept().on('exec', (accept) => void accept())),
    );
    const port = await freePort();
    await new Promise<void>((done) => mute.listen(port, '127.0.0.1', done));
    const add = (name: string) =>
      controller.cliOk('host', 'add', name, `ssh://x@127.0.0.1:${port}`, '--accept-new', '--no-wait');
    await add('mute');
    await new Promise((done) => setTimeout(done, 1500));
    const began = Date.now();
    await controller.cliOk('host', 'remove', 'mute');
    await add('mute-too');
    await new Promise((done) => setTimeout(done, 1500));
    await controller.kill('SIGTERM');
    assert.ok(Date.now() - began < 25_000);
    await controller.restart();
    await controller.cliOk('host', 'remove', 'mute-too');
    mute.close();
  });

  test('an alias of ~/.ssh/config says where, as whom and with which key', async () => {
    const config = [
      'Host *.fleet',
      `  User ${host.user}`,
      `  Port ${host.port}`,
      `  IdentityFile ${host.identity}`,
      'Host storage.fleet',
      `  HostName ${host.address}`,
    ].join('\n');
    // ssh(1) finds its file by the user's entry in passwd, whatever HOME says.
    writeFileSync(join(home, '.ssh/config'), config);
    const wrapper = join(room.path, 'bin');
    mkdirSync(wrapper);
    writeFileSync(
      join(wrapper, 'ssh'),
      `#!/bin/sh\nexec /usr/bin/ssh -F ${join(home, '.ssh/config')} "$@"\n`,
      { mode: 0o755 },
    );
    const { status, stdout, stderr } = await controller.cliIn(
      { PATH: `${wrapper}:${process.env.PATH}` },
      'host',
      'add',
      'alias',
      'ssh://storage.fleet',
      '--fingerprint',
      host.fingerprint,
    );
    assert.equal(status, 0, stderr);
    assert.match(stdout, new RegExp(`ssh://${host.user}@${host.address}:${host.port}`));
    assert.match(stdout, /state +reachable/);
    await controller.cliOk('host', 'remove', 'alias');
  });

  test('a user who is not root gets an agent of root through sudo, reached by the bridge', {
    skip: isRoot ? false : 'making such a user needs root',
  }, async () => {
    await using operated = await startHost(join(room.path, 'operated'), { operator: true });
    await controller.addHost(operated);
    const pool = join(room.path, 'owned-by-root');
    await controller.addPool(operated, pool);
    await controller.cliOk('vol', 'create', `${operated.name}/p/v`, '--capacity', '1M');
    assert.match(await controller.cliOk('vol', 'list', operated.name), /\/v /);
    assert.equal(execFileSync('stat', ['-c', '%U', join(pool, 'v')], { encoding: 'utf8' }).trim(), 'root');
    await controller.cliOk('host', 'remove', operated.name);
  });
});
