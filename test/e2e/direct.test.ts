import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { AuditRecord, VolumeDetails } from '../../shared/protocol/api.ts';
import { type CliResult, TestController, until } from '../support/controller.ts';
import { freePort, startHost, type TestHost } from '../support/hosts.ts';
import { openRoad } from '../support/road.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const SIZE = 96 * MIB;
const room = scratch();
const file = (name: string): string => join(room.path, name);
const image = file('image');
let controller: TestController;

before(async () => {
  controller = await TestController.start(join(room.path, 'data'), []);
  writeFileSync(image, randomBytes(64 * MIB));
  truncateSync(image, SIZE);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await room[Symbol.asyncDispose]();
});

const outcomes = async (action: string): Promise<string[]> =>
  (await controller.api<AuditRecord[]>('/audit?limit=40'))
    .filter((record) => record.action === action)
    .map(({ outcome }) => outcome);
const volume = (name: string): Promise<VolumeDetails> =>
  controller.api<VolumeDetails>(`/hosts/local/pools/default/volumes/${name}`);
const stored = (name: string): Buffer => readFileSync(join(room.path, 'data/pools/default', name));

/** So many MiB that take their time to be sent, whatever else the machine does. */
const manyBytes = (sizeMiB: number): Buffer => Buffer.alloc(sizeMiB * MIB, randomBytes(MIB));

/** Whether so much of the upload that runs is on its host. Looked for there: an agent that is busy with it answers late. */
function hasArrived(bytes: number): boolean {
  const stages = join(room.path, 'data/pools/default/.stowage/stages');
  if (!existsSync(stages)) return false;
  const sizes = readdirSync(stages, { recursive: true, encoding: 'utf8' }).map(
    (name) => statSync(join(stages, name), { throwIfNoEntry: false })?.blocks ?? 0,
  );
  return sizes.reduce((sum, blocks) => sum + blocks * 512, 0) > bytes;
}

/** A controller's API that tells clients of other ports than the hosts have, or has strangers dial first. */
async function between(change: { port?: number; strangers?: boolean; cuts?: number }) {
  let { cuts = 0 } = change;
  const port = await freePort();
  const server = createServer((incoming, outgoing) => {
    if (incoming.url!.includes('direct') && cuts-- > 0) return void incoming.socket.destroy();
    const onward = request(
      new URL(incoming.url!, controller.url),
      { method: incoming.method, headers: incoming.headers },
      (answer) => {
        const headers = { ...answer.headers };
        delete headers['content-length'];
        outgoing.writeHead(answer.statusCode!, headers);
        if (!incoming.url!.includes('direct')) return void answer.pipe(outgoing);
        answer.setEncoding('utf8');
        let isFirst = true;
        answer.on('data', (text: string) => {
          const [, told] = /"port":(\d+)/.exec(text) ?? [];
          if (isFirst && told !== undefined && change.strangers) {
            for (let count = 0; count < 3; count++)
              connect(Number(told), '127.0.0.1')
                .on('error', () => undefined)
                .end('GET / HTTP/1.1\r\n\r\n');
            connect(Number(told), '127.0.0.1').on('error', () => undefined);
          }
          outgoing.write(isFirst && change.port ? text.replace(/"port":\d+/, `"port":${change.port}`) : text);
          isFirst = false;
        });
        answer.on('end', () => outgoing.end());
        answer.on('error', () => outgoing.destroy());
      },
    );
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  });
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  return {
    cli: (...args: string[]): Promise<CliResult> =>
      controller.cliIn({ STOWAGE_URL: `http://127.0.0.1:${port}` }, ...args),
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

describe('a client that reaches the host', () => {
  test('sends and fetches a volume past the controller; the holes stay', async () => {
    using road = await openRoad(Number(new URL(controller.url).port));
    const env = { STOWAGE_URL: road.url };
    const up = await controller.cliIn(env, 'vol', 'upload', image, 'local/default/v');
    assert.equal(up.status, 0, up.stderr);
    assert.ok(stored('v').equals(readFileSync(image)));
    const back = file('back');
    const down = await controller.cliIn(env, 'vol', 'download', 'local/default/v', back);
    assert.equal(down.status, 0, down.stderr);
    assert.ok(readFileSync(back).equals(readFileSync(image)));
    assert.ok(statSync(back).blocks * 512 <= 65 * MIB);
    assert.ok(
      road.bytes + road.sentBytes < MIB,
      `${road.bytes + road.sentBytes} bytes passed the controller`,
    );
    assert.deepEqual(await outcomes('volume.upload-direct'), ['begun', 'done']);
    await until('the end is on record', async () => (await outcomes('volume.download-direct')).length === 2);
    assert.deepEqual(await outcomes('volume.download-direct'), ['begun', 'done']);
    await until('nothing holds it', async () => (await volume('v')).heldBy.length === 0);
  });

  test('holds the volume while it fetches, and no longer', async () => {
    const path = '/hosts/local/pools/default/volumes/v';
    const stop = new AbortController();
    const response = await controller.fetch(`${path}/download-direct`, {
      method: 'POST',
      signal: stop.signal,
    });
    assert.equal(response.status, 200);
    assert.match((await volume('v')).heldBy.join(), /download by admin/);
    await controller.cliRefused('volume-in-use', 'vol', 'delete', 'local/default/v', '--yes');
    stop.abort();
    await until('nothing holds it', async () => (await volume('v')).heldBy.length === 0);
    assert.ok((await outcomes('volume.download-direct')).includes('failed'));
  });

  test('goes on with a download that was killed; what was damaged meanwhile is fetched again', async () => {
    const back = file('killed');
    const child = execFile(
      process.execPath,
      ['controller/cli/stowage.ts', 'vol', 'download', 'local/default/v', back],
      {
        env: { ...process.env, STOWAGE_URL: controller.url, STOWAGE_TOKEN: controller.token },
      },
    );
    const chunks = await until('a note of how far it has come', () => {
      try {
        return (JSON.parse(readFileSync(`${back}.part.json`, 'utf8')) as { chunks: number }).chunks;
      } catch {
        // It may have its name already, on a fast machine.
        return existsSync(back) ? 1 : undefined;
      }
    });
    child.kill('SIGKILL');
    if (existsSync(`${back}.part`) && chunks > 0) {
      const damaged = openSync(`${back}.part`, 'r+');
      writeSync(damaged, 'not what was sent', 100);
    } else rmSync(back);
    await controller.cliOk('vol', 'download', 'local/default/v', back);
    assert.ok(readFileSync(back).equals(readFileSync(image)));
    assert.ok(!existsSync(`${back}.part`) && !existsSync(`${back}.part.json`));
  });

  test('goes on with an upload whose agent was killed', async () => {
    const large = file('large');
    writeFileSync(large, manyBytes(1024));
    const upload = controller.cli('vol', 'upload', large, 'local/default/large');
    await until('some of it has arrived', () => hasArrived(16 * MIB));
    const { agent } = await controller.api<{ agent: { pid: number } }>('/hosts/local');
    process.kill(agent.pid, 'SIGKILL');
    const { status, stderr } = await upload;
    assert.equal(status, 0, stderr);
    assert.match(stderr, /trying again/);
    assert.ok(stored('large').equals(readFileSync(large)));
    await controller.cliOk('vol', 'delete', 'local/default/large', '--yes');
    rmSync(large);
  });

  test('is told when its file changes while it is sent, and nothing becomes the volume', async () => {
    const changing = file('changing');
    writeFileSync(changing, manyBytes(1024));
    // All the time: nobody knows when a fast machine is in the middle of it.
    const writing = setInterval(() => appendFileSync(changing, 'more'), 5);
    const upload = controller.cli('vol', 'upload', changing, 'local/default/changing');
    upload.finally(() => clearInterval(writing));
    const { status, stderr } = await upload;
    assert.equal(status, 4, stderr);
    assert.match(stderr, /was written to while it was sent/);
    await controller.cliRefused('volume-not-found', 'vol', 'show', 'local/default/changing');
  });

  test('is not kept from it by strangers who find the port', async () => {
    using proxy = await between({ strangers: true });
    const up = await proxy.cli('vol', 'upload', image, 'local/default/strangers');
    assert.equal(up.status, 0, up.stderr);
    assert.deepEqual((await outcomes('volume.upload-extents')).length, 0);
    assert.ok(stored('strangers').equals(readFileSync(image)));
    const back = file('strangers');
    const down = await proxy.cli('vol', 'download', 'local/default/strangers', back);
    assert.equal(down.status, 0, down.stderr);
    assert.ok(readFileSync(back).equals(readFileSync(image)));
  });

  test('goes on past the controller after that was away for a moment', async () => {
    using proxy = await between({ cuts: 1 });
    const up = await proxy.cli('vol', 'upload', image, 'local/default/blinked');
    assert.equal(up.status, 0, up.stderr);
    assert.match(up.stderr, /trying again/);
    assert.deepEqual(await outcomes('volume.upload-extents'), []);
    assert.ok(stored('blinked').equals(readFileSync(image)));
  });

  test('sees nothing more when its token is revoked', async () => {
    const token = (await controller.cliOk('token', 'create', 'short', '--role', 'viewer')).trim();
    const response = await controller.fetch('/hosts/local/pools/default/volumes/v/download-direct', {
      method: 'POST',
      token,
    });
    const reader = response.body!.getReader();
    const { port } = JSON.parse(Buffer.from((await reader.read()).value!).toString()) as { port: number };
    await controller.cliOk('token', 'revoke', 'short', '--yes');
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
    await until(
      'the door is closed',
      () =>
        new Promise<boolean>((closed) => {
          connect(port, '127.0.0.1')
            .once('error', () => closed(true))
            .once('connect', () => closed(false));
        }),
    );
  });
});

test('a client that does not reach the host goes through the controller', async () => {
  using proxy = await between({ port: 1 });
  const up = await proxy.cli('vol', 'upload', image, 'local/default/relayed');
  assert.equal(up.status, 0, up.stderr);
  assert.ok(stored('relayed').equals(readFileSync(image)));
  const back = file('relayed');
  const down = await proxy.cli('vol', 'download', 'local/default/relayed', back);
  assert.equal(down.status, 0, down.stderr);
  assert.ok(readFileSync(back).equals(readFileSync(image)));
  assert.deepEqual(await outcomes('volume.upload-extents'), ['begun', 'done']);
});

describe('a host reached by SSH', () => {
  let host: TestHost;
  before(async () => {
    host = await startHost(file('host'));
    await controller.addHost(host);
    await controller.addPool(host);
  });
  after(() => host[Symbol.asyncDispose]());

  /** Uploads and downloads with curl's means; gives how many bytes the SSH connection took, as the road counts them. */
  const roundTrip = async (name: string, target: string): Promise<void> => {
    const body = readFileSync(image);
    const path = `/hosts/${name}/pools/${target}/volumes/v/data`;
    const put = await controller.fetch(`${path}?format=raw`, {
      method: 'PUT',
      body,
      headers: { 'content-type': 'application/octet-stream' },
    });
    assert.equal(put.status, 201, await put.clone().text());
    const got = Buffer.from(await (await controller.fetch(path)).arrayBuffer());
    assert.ok(got.equals(body));
  };

  test('bytes of curl go past the SSH connection where a port of the host can be reached, else over it', async () => {
    await roundTrip(host.name, 'p');
    // The same host by a road that leads to its sshd only: no other port is behind the name.
    await controller.cliOk('host', 'remove', host.name, '--yes');
    if (host.address === '127.0.0.1') return;
    const port = await freePort();
    const { createServer: createTcp } = await import('node:net');
    let bytes = 0;
    const sockets = new Set<import('node:net').Socket>();
    const road = createTcp((near) => {
      const far = connect(host.port, host.address);
      near.on('data', (data) => {
        bytes += data.length;
      });
      near.pipe(far).pipe(near);
      for (const socket of [near, far]) {
        sockets.add(socket);
        socket.on('error', () => socket.destroy());
      }
    });
    await new Promise<void>((done) => road.listen(port, '127.0.0.1', done));
    const args = ['--identity', host.identity, '--fingerprint', host.fingerprint];
    await controller.cliOk('host', 'add', 'walled', `ssh://${host.user}@127.0.0.1:${port}`, ...args);
    await until('its pool is known', async () =>
      (await controller.cliOk('pool', 'list')).includes('walled/p'),
    );
    bytes = 0;
    await roundTrip('walled', 'p');
    assert.ok(bytes > SIZE, `${bytes} bytes went over SSH`);
    await controller.cliOk('host', 'remove', 'walled', '--yes');
    for (const socket of sockets) socket.destroy();
    road.close();
  });
});
