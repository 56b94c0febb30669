import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { poolContents, TestController, until } from '../support/controller.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { ploopTool, qemuImg } from '../support/ploop-tool.ts';
import { isRoot, scratch, sha256 } from '../support/scratch.ts';

const MIB = 1 << 20;

/** The story of the README: two hosts by SSH, a third that dials in, volumes moving between them, all on record. */
describe('a fleet of three hosts', () => {
  const room = scratch();
  let controller: TestController;
  let first: TestHost;
  let second: TestHost;
  let dialling: { pid: number; stop(): void };
  const pools: Record<string, string> = {};
  const image = join(room.path, 'image.raw');

  before(async () => {
    controller = await TestController.start(join(room.path, 'controller'));
    first = await startHost(join(room.path, 'first'));
    // This one has no Node: the controller brings its own.
    second = await startHost(join(room.path, 'second'), { withoutNode: true });
    const file = await open(image, 'w');
    await file.write(randomBytes(24 * MIB), 0, 24 * MIB, 8 * MIB);
    await file.truncate(96 * MIB);
    await file.close();
  });

  after(async () => {
    dialling?.stop();
    await controller?.[Symbol.asyncDispose]();
    await first?.[Symbol.asyncDispose]();
    await second?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('two hosts are added by SSH, one of them without Node', async () => {
    await controller.addHost(first);
    await controller.addHost(second);
    const list = await controller.cliOk('host', 'list');
    assert.match(list, new RegExp(`${first.name}\\s+ssh\\s+reachable`));
    assert.match(list, new RegExp(`${second.name}\\s+ssh\\s+reachable`));
    assert.match(
      readFileSync(`/proc/${second.agentPid()}/cmdline`, 'utf8'),
      /second\/agent\/node-v24/,
      'it runs on the Node that was brought',
    );
    const doctor = await controller.cli('host', 'doctor', second.name);
    assert.match(doctor.stdout, /native helper/);
  });

  test('a third dials in by WebSocket with a one-time token', async () => {
    const { token } = JSON.parse(await controller.cliOk('host', 'token', 'third', '--json')) as {
      token: string;
    };
    const state = join(room.path, 'third');
    mkdirSync(state);
    const tokenFile = join(state, 'token');
    writeFileSync(tokenFile, token);
    const agent = spawn(
      process.execPath,
      ['agent/main.ts', 'connect', controller.url, '--state', state, '--token-file', tokenFile],
      { stdio: 'ignore' },
    );
    dialling = { pid: agent.pid!, stop: () => agent.kill('SIGKILL') };
    await until('the third host is reachable', async () =>
      (await controller.cliOk('host', 'list')).match(/third\s+websocket\s+reachable/),
    );
    assert.throws(() => statSync(tokenFile), 'the used token is gone');
  });

  test('each gets a pool, and one inventory shows them all', async () => {
    for (const host of [first, second]) pools[host.name] = await controller.addPool(host);
    pools.third = join(room.path, 'third/pool');
    await controller.cliOk('pool', 'create', 'third/p', '--type', 'dir', '--target', pools.third);
    const list = await controller.cliOk('pool', 'list');
    for (const host of [first.name, second.name, 'third'])
      assert.match(list, new RegExp(`${host}/p\\s+dir\\s+running`));
  });

  test('an image is uploaded, sparse, and downloaded again', async () => {
    await controller.cliOk('vol', 'upload', image, `${first.name}/p/image`);
    const stored = statSync(join(pools[first.name]!, 'image'));
    assert.equal(stored.size, 96 * MIB);
    assert.ok(stored.blocks * 512 <= 25 * MIB, 'holes stay holes');
    assert.equal(await sha256(join(pools[first.name]!, 'image')), await sha256(image));
    const back = join(room.path, 'back.raw');
    await controller.cliOk('vol', 'download', `${first.name}/p/image`, back);
    assert.equal(await sha256(back), await sha256(image));
    assert.ok(statSync(back).blocks * 512 <= 25 * MIB);
  });

  test('it is cloned, and the clone stays sparse', async () => {
    await controller.cliOk('vol', 'clone', `${first.name}/p/image`, 'copy');
    assert.equal(await sha256(join(pools[first.name]!, 'copy')), await sha256(image));
    assert.ok(statSync(join(pools[first.name]!, 'copy')).blocks * 512 <= 25 * MIB);
  });

  test('by content it becomes ploop, then qcow2, on other hosts', async () => {
    await controller.cliOk(
      'vol',
      'migrate',
      `${first.name}/p/copy`,
      `${second.name}/p/ct`,
      '--format',
      'ploop',
    );
    const directory = join(pools[second.name]!, 'ct');
    assert.equal(ploopTool('check', '-f', join(directory, 'root.hds')).status, 0);
    assert.deepEqual((await poolContents(pools[first.name]!)).volumes, ['image'], 'the source is gone');
    await controller.cliOk(
      'vol',
      'migrate',
      `${second.name}/p/ct`,
      'third/p/vm',
      '--format',
      'qcow2',
      '--keep-source',
    );
    const converted = join(room.path, 'vm.raw');
    qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(pools.third!, 'vm'), converted);
    assert.equal(await sha256(converted), await sha256(image));
  });

  test('a ploop volume moves with its snapshots; its bytes and its id stay', async () => {
    const reference = `${second.name}/p/ct`;
    const snapshot = (await controller.cliOk('vol', 'snapshot', 'create', reference)).trim();
    const before = JSON.parse(await controller.cliOk('vol', 'show', reference, '--json')) as { id: string };
    const refused = await controller.cli('vol', 'download', reference, join(room.path, 'no'));
    assert.equal(refused.status, 4);
    assert.match(refused.stderr, /all existing snapshots will be lost/);
    await controller.cliOk('vol', 'migrate', reference, `third/p`);
    const after = JSON.parse(await controller.cliOk('vol', 'show', 'third/p/ct', '--json')) as {
      id: string;
      snapshotCount: number;
    };
    assert.equal(after.id, before.id);
    assert.equal(after.snapshotCount, 1);
    const content = join(room.path, 'ct.raw');
    await controller.cliOk('vol', 'download', 'third/p/ct', content, '--as', 'content');
    assert.equal(await sha256(content), await sha256(image));
    await controller.cliOk('vol', 'snapshot', 'delete', 'third/p/ct', snapshot);
    assert.equal(ploopTool('check', '-f', join(pools.third!, 'ct/root.hds')).status, 0);
  });

  test('what others change in a pool shows by itself', async () => {
    writeFileSync(join(pools[first.name]!, 'stranger'), Buffer.alloc(MIB));
    await until('the stranger is listed', async () =>
      (await controller.cliOk('vol', 'list', `${first.name}/p`)).includes('stranger'),
    );
    const { rmSync } = await import('node:fs');
    rmSync(join(pools[first.name]!, 'stranger'));
    await until(
      'the stranger is gone',
      async () => !(await controller.cliOk('vol', 'list', `${first.name}/p`)).includes('stranger'),
    );
  });

  test('agents that cannot reach each other send through the controller', {
    skip: isRoot ? false : 'separate networks need root',
  }, async () => {
    first.blind(second);
    await controller.cliOk('vol', 'migrate', `${first.name}/p/image`, `${second.name}/p`, '--keep-source');
    assert.equal(await sha256(join(pools[second.name]!, 'image')), await sha256(image));
  });

  test('a host that goes away shows as unreachable with the reason, and comes back by itself', {
    skip: isRoot ? false : 'pulling a cable needs root',
  }, async () => {
    first.cut();
    await until('unreachable', async () =>
      (await controller.cliOk('host', 'list')).match(
        new RegExp(`${first.name}\\s+ssh\\s+unreachable\\s+\\S+ \\S+\\s+\\S+\\s+\\S+`),
      ),
    );
    const refused = await controller.cli('vol', 'create', `${first.name}/p/x`, '--capacity', '1M');
    assert.equal(refused.status, 6);
    // Its pools are not there, whatever it told of them last.
    const pool = new RegExp(`${first.name}/p\\s+dir\\s+(\\w+)`);
    assert.equal(pool.exec(await controller.cliOk('pool', 'list'))?.[1], 'away');
    assert.match(
      await controller.cliOk('pool', 'show', `${first.name}/p`),
      /state +away; running when its host was heard of last/,
    );
    assert.match(
      await controller.cliOk('status'),
      /pools +\d+ running, \d+ away|pools +\d+ away, \d+ running/,
    );
    const numbers = await (
      await fetch(`${controller.url}/metrics`, { headers: { authorization: `Bearer ${controller.token}` } })
    ).text();
    assert.match(numbers, new RegExp(`stowage_pool_up{host="${first.name}",pool="p",type="dir"} 0`));
    assert.match(numbers, /stowage_pools{state="away"} [1-9]/);
    assert.match(numbers, /stowage_attention_items{kind="host-unreachable",severity="critical"} 1/);
    first.heal();
    await until('reachable again', async () =>
      (await controller.cliOk('host', 'list')).match(new RegExp(`${first.name}\\s+ssh\\s+reachable`)),
    );
    assert.equal(pool.exec(await controller.cliOk('pool', 'list'))?.[1], 'running');
  });

  test('the agent is started again after a kill, with its pools', async () => {
    const before = first.agentPid();
    first.killAgent();
    await until('a new agent runs', () => first.agentPid() !== undefined && first.agentPid() !== before);
    await until('its pool runs', async () =>
      (await controller.cliOk('pool', 'list')).match(new RegExp(`${first.name}/p\\s+dir\\s+running`)),
    );
  });

  test('the audit trail tells who did what, and is whole', async () => {
    const trail = await controller.cliOk('audit', 'list', '--limit', '500');
    for (const words of [
      'host.add',
      'host.enrol',
      'pool.create',
      'volume.upload',
      'volume.clone',
      'job.migrate',
      'volume.download',
      'snapshot.create',
    ]) {
      assert.match(trail, new RegExp(words.replace('.', '\\.')), words);
    }
    assert.match(await controller.cliOk('audit', 'verify'), /the trail is whole/);
    const exported = await controller.cliOk('audit', 'export');
    for (const line of exported.trim().split('\n')) JSON.parse(line);
    assert.ok(!exported.includes(controller.token), 'no secret in the trail');
  });
});
