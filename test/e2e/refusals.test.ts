import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Database from 'better-sqlite3';
import type { OpenedVolume } from '../../agent/pools/operations.ts';
import { SourceDoor } from '../../agent/transfer/door.ts';
import { ChunkMap, type Part } from '../../shared/transfer/chunks.ts';
import { Outgoing } from '../../shared/transfer/outgoing.ts';
import { PullConnection } from '../../shared/transfer/pull-connection.ts';
import { type CliResult, execute, TestController, until } from '../support/controller.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { scratch, sha256 } from '../support/scratch.ts';

const MIB = 1 << 20;

function emptySource(parts: Part[]): OpenedVolume {
  const layout = {
    parts,
    format: 'raw' as const,
    capacityBytes: MIB,
    volumeId: crypto.randomUUID(),
    etag: 'e',
  };
  const source = {
    sizeBytes: MIB,
    async *extents() {},
    read: async () => undefined,
    close: async () => undefined,
  };
  return {
    layout,
    sources: [source],
    checkUnchanged: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

interface Record {
  seq: number;
  action: string;
  outcome: string;
  actor: string;
  detail: string;
  target: string;
}

describe('what is refused, and on record', () => {
  const room = scratch();
  let controller: TestController;
  let host: TestHost;
  let pool: string;

  before(async () => {
    controller = await TestController.start(join(room.path, 'controller'));
    host = await startHost(join(room.path, 'host'));
    await controller.addHost(host);
    pool = await controller.addPool(host);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await host?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const trail = (): Promise<Record[]> => controller.api<Record[]>('/audit?limit=1000');
  const lastRecord = async (action: string, outcome: string): Promise<Record | undefined> =>
    (await trail()).filter((record) => record.action === action && record.outcome === outcome).at(-1);

  describe('host keys', () => {
    const add = (name: string, ...trust: string[]) =>
      controller.cli(
        'host',
        'add',
        name,
        `ssh://${host.user}@${host.address}:${host.port}`,
        '--identity',
        host.identity,
        ...trust,
      );

    test('without a word on the key, it is shown and nothing is sent', async () => {
      const { status, stderr } = await add('unknown');
      assert.equal(status, 1);
      assert.match(stderr, new RegExp(host.fingerprint.replace(/[+]/g, '\\+')));
      assert.match(stderr, /host-key-unknown/);
    });

    test('the wrong key is refused', async () => {
      const wrong = `SHA256:${'A'.repeat(43)}`;
      const { status, stderr } = await add('wrong', '--fingerprint', wrong);
      assert.equal(status, 1);
      assert.match(stderr, /host-key-mismatch/);
      assert.ok((await lastRecord('host.add', 'failed'))?.detail.includes('host-key-mismatch'));
      assert.doesNotMatch(await controller.cliOk('host', 'list'), /wrong/);
    });

    test('a host that was never reached is added again in place; one that was is not', async () => {
      const key = join(room.path, 'no-key');
      writeFileSync(key, 'none');
      await add('mended', '--accept-new', '--no-wait', '--identity', key);
      const json = { name: 'mended', user: 'root', hostname: '127.0.0.2', port: 9 };
      // What does not answer takes nobody's place.
      await assert.rejects(controller.api('/hosts', { ...json, acceptNew: true }));
      assert.match(await controller.cliOk('host', 'list', '-q'), /^mended$/m);
      const again = await add('mended', '--accept-new', '--no-wait', '--identity', key);
      assert.equal(again.status, 0, again.stderr);
      assert.equal((await controller.cliOk('host', 'list', '-q')).match(/^mended$/gm)?.length, 1);
      await controller.cliOk('host', 'remove', 'mended');
      assert.match((await add(host.name, '--accept-new')).stderr, /host-exists/);
    });

    test('the same agent under a second name is refused', async () => {
      await add('twin', '--accept-new', '--no-wait');
      await until('the twin is unreachable', async () =>
        (await controller.cliOk('host', 'list')).match(/twin\s+ssh\s+unreachable.*same agent/),
      );
      await controller.cliOk('host', 'remove', 'twin');
    });

    test('a key that changes later ends the link, and is told as the reason', async () => {
      const other = await startHost(join(room.path, 'changing'));
      try {
        await controller.addHost(other);
        await other.changeHostKey();
        other.killAgent();
        await until('refused', async () =>
          (await controller.cliOk('host', 'list')).match(
            new RegExp(`${other.name}\\s+ssh\\s+unreachable.*not the one pinned`),
          ),
        );
        await controller.cliOk('host', 'remove', other.name);
      } finally {
        await other[Symbol.asyncDispose]();
      }
    });
  });

  describe('tokens and roles', () => {
    test('no token, a wrong one, a revoked one, an expired one', async () => {
      const { secret } = await controller.api<{ secret: string }>('/tokens', { name: 'gone', role: 'admin' });
      await controller.cliOk('token', 'revoke', 'gone');
      const expired = await controller.api<{ secret: string }>('/tokens', {
        name: 'expired',
        role: 'admin',
        expiresAt: 1,
      });
      for (const token of ['', 'stow_wrong-wrong-wrong', secret, expired.secret]) {
        const response = await controller.fetch('/hosts', { token });
        assert.equal(response.status, 401);
        assert.equal(((await response.json()) as { code: string }).code, 'unauthenticated');
      }
      assert.ok((await trail()).some((record) => record.outcome === 'refused' && record.actor === 'nobody'));
    });

    test('a viewer may look and may not touch; an operator may not administer', async () => {
      const viewer = (await controller.cliOk('token', 'create', 'vera', '--role', 'viewer')).trim();
      const operator = (await controller.cliOk('token', 'create', 'otto', '--role', 'operator')).trim();
      assert.equal((await controller.cliAs(viewer, 'vol', 'list')).status, 0);
      const refused = await controller.cliAs(
        viewer,
        'vol',
        'create',
        `${host.name}/p/no`,
        '--capacity',
        '1M',
      );
      assert.equal(refused.status, 5);
      assert.match(refused.stderr, /'vera' has the role viewer/);
      const record = await lastRecord('volume.create', 'refused');
      assert.equal(record?.actor, 'vera');
      assert.equal(
        (await controller.cliAs(operator, 'vol', 'create', `${host.name}/p/yes`, '--capacity', '1M')).status,
        0,
      );
      assert.equal((await controller.cliAs(operator, 'token', 'create', 'x', '--role', 'admin')).status, 5);
      assert.equal((await controller.cliAs(operator, 'host', 'remove', host.name)).status, 5);
    });

    test('permission is checked before the body is parsed', async () => {
      const viewer = (await controller.cliOk('token', 'create', 'vic', '--role', 'viewer')).trim();
      const response = await controller.fetch(`/hosts/${host.name}/pools/p/volumes`, {
        method: 'POST',
        token: viewer,
        headers: { 'content-type': 'application/json' },
        body: '{ not json',
      });
      assert.equal(response.status, 403);
    });
  });

  describe('enrolment', () => {
    /** Runs an agent that dials in until it says something about it. */
    async function dial(state: string, token: string | undefined): Promise<string> {
      mkdirSync(state, { recursive: true });
      const file = join(state, 'token');
      if (token) writeFileSync(file, token);
      const agent = spawn(
        process.execPath,
        [
          'agent/main.ts',
          'connect',
          controller.url,
          '--state',
          state,
          ...(token ? ['--token-file', file] : []),
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      let words = '';
      agent.stderr.on('data', (data) => {
        words += data;
      });
      try {
        return await until('the agent speaks', () => /linked|refused/.test(words) && words);
      } finally {
        agent.kill('SIGKILL');
      }
    }

    test('an unknown token, a used one, none at all, another key for a known agent', async () => {
      assert.match(await dial(join(room.path, 'a1'), 'enrol_made-up'), /token is unknown/);
      assert.match(await dial(join(room.path, 'a2'), undefined), /not enrolled/);
      const { token } = JSON.parse(await controller.cliOk('host', 'token', 'dialler', '--json')) as {
        token: string;
      };
      assert.match(await dial(join(room.path, 'a3'), token), /linked/);
      assert.match(await dial(join(room.path, 'a4'), token), /used before/);
      rmSync(join(room.path, 'a3/link-key.pem'));
      assert.match(await dial(join(room.path, 'a3'), undefined), /not enrolled/);
      assert.ok(
        (await trail()).filter((record) => record.action === 'host.link' && record.outcome === 'refused')
          .length >= 4,
      );
      assert.ok(
        !(await controller.cliOk('audit', 'export')).includes(token),
        'the token is not in the trail',
      );
    });

    test('a stream nobody asked for', async () => {
      const status = await new Promise<number | undefined>((resolve) => {
        const ask = request(`${controller.url}/api/v1/agents/streams/guess`, {
          headers: {
            connection: 'Upgrade',
            upgrade: 'websocket',
            'sec-websocket-key': `${'x'.repeat(22)}==`,
            'sec-websocket-version': '13',
          },
        });
        ask.on('response', (response) => resolve(response.statusCode));
        ask.on('error', () => resolve(undefined));
        ask.end();
      });
      assert.equal(status, 403);
    });
  });

  describe('tickets', () => {
    /** A volume of the host that is on its way, slowly, to another pool of it; and the port of its door. */
    async function doorOfSlowMigration(): Promise<{ job: number; port: number }> {
      await controller.cliOk('pool', 'create', `${host.name}/q`, '--type', 'dir', '--target', `${pool}-q`);
      const volume = `${host.name}/p/slow`;
      const file = join(room.path, 'slow');
      writeFileSync(file, randomBytes(16 * MIB));
      await controller.cliOk('vol', 'upload', file, volume, '--format', 'raw');
      const migration = await controller.cliOk(
        'vol',
        'migrate',
        volume,
        `${host.name}/q`,
        '--limit',
        '1M',
        '--no-wait',
        '--json',
      );
      const port = await until('the door is open', () => {
        const [tool = '', ...args] = host.command(['ss', '-Htln']);
        const ports = execFileSync(tool, args, { encoding: 'utf8' })
          .split('\n')
          .map((line) => Number(/:(\d+) +\S+:\*/.exec(line)?.[1]));
        return ports.find((open) => open > 1024 && open !== host.port);
      });
      return { job: (JSON.parse(migration) as { id: number }).id, port };
    }

    /** What openssl is told at the door, with a key or without. */
    function knock(port: number, ...key: string[]): Promise<CliResult> {
      const client = ['openssl', 's_client', '-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'];
      const [tool = '', ...args] = host.command([...client, '-connect', `127.0.0.1:${port}`, ...key]);
      return execute(tool, args);
    }

    test('a door lets nobody in who does not hold the ticket, and tells of it', async () => {
      const { job, port } = await doorOfSlowMigration();
      const key = randomBytes(32).toString('hex');
      for (const args of [[], ['-psk', key, '-psk_identity', crypto.randomUUID()]]) {
        const { status, stderr } = await knock(port, ...args);
        assert.notEqual(status, 0);
        assert.match(stderr, /alert handshake failure/);
      }
      const refused = await until('both are on record', async () => {
        const records = await controller.api<Record[]>('/audit?limit=20');
        const found = records.filter(
          ({ action, outcome }) => action === 'job.migrate' && outcome === 'refused',
        );
        return found.length === 2 ? found : undefined;
      });
      assert.match(refused.map(({ detail }) => detail).join(), /ticket is for another transfer/);
      await controller.cliOk('job', 'cancel', String(job));
    });

    test('the right one serves; an expired one and a foreign one do not', async () => {
      const ticket = { transfer: crypto.randomUUID(), secret: randomBytes(32).toString('base64url') };
      const other = { transfer: ticket.transfer, secret: randomBytes(32).toString('base64url') };
      const parts = [{ name: '', sizeBytes: MIB, dense: false }];
      const refusals: string[] = [];
      const open = (expiresAt: number) =>
        SourceDoor.open({
          outgoing: new Outgoing(emptySource(parts), 'gmac'),
          ticket,
          expiresAt,
          onRefused: (_from, reason) => refusals.push(reason),
        });
      using good = await open(Date.now() + 60_000);
      using old = await open(Date.now() - 1);
      const pull = async (door: SourceDoor, shown: typeof ticket) => {
        const way = { address: '127.0.0.1', port: door.offer.port };
        using connection = new PullConnection(way, shown, new ChunkMap(parts), async () => undefined);
        await connection.opened();
        await connection.zeros();
      };
      await pull(good, ticket);
      await assert.rejects(pull(old, ticket), { code: 'ticket-refused' });
      await assert.rejects(pull(good, other), { code: 'ticket-refused' });
      assert.deepEqual(refusals, ['its ticket has expired', 'it does not hold the ticket']);
    });
  });

  describe('names and paths', () => {
    const path = (): string => `/hosts/${host.name}/pools/p/volumes`;
    const names = [
      '../x',
      'a/b',
      '-rf',
      'a\u0000b',
      'x'.repeat(300),
      '',
      '.',
      '..',
      '.stowage',
      '\u202egnp.exe',
      '__proto__/x',
    ];

    for (const name of names) {
      test(`a volume is not named ${JSON.stringify(name.slice(0, 20))}`, async () => {
        const response = await controller.fetch(path(), {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ name, capacityBytes: MIB }),
        });
        assert.equal(response.status, 400, await response.text());
        for (const method of ['GET', 'DELETE']) {
          const onVolume = await controller.fetch(`${path()}/${encodeURIComponent(name)}`, { method });
          assert.ok([400, 404].includes(onVolume.status), `${method}: ${onVolume.status}`);
        }
      });
    }

    test('capacities of 0, less than 0, 2^63 and text', async () => {
      for (const capacityBytes of [0, -1, 2 ** 63, 1.5, '10G', null]) {
        const response = await controller.fetch(path(), {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ name: 'c', capacityBytes }),
        });
        assert.equal(response.status, 400);
        assert.equal(((await response.json()) as { code: string }).code, 'invalid-argument');
      }
      assert.equal(
        (await controller.cli('vol', 'create', `${host.name}/p/c`, '--capacity', '9223372036854775808'))
          .status,
        2,
      );
    });

    test('a pool is not the root, not relative, and does not overlap another', async () => {
      for (const target of ['/', 'relative', '/a\nb']) {
        const response = await controller.fetch(`/hosts/${host.name}/pools`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ name: 'q', type: 'dir', target: { path: target } }),
        });
        assert.equal(response.status, 400);
      }
      const overlap = await controller.cli(
        'pool',
        'create',
        `${host.name}/q`,
        '--type',
        'dir',
        '--target',
        join(pool, 'inside'),
      );
      assert.equal(overlap.status, 4);
    });

    test('links in a pool are no volumes and lead nowhere', async () => {
      const outside = join(room.path, 'outside');
      mkdirSync(outside);
      writeFileSync(join(outside, 'precious'), 'precious');
      const ploop = join(outside, 'ct');
      mkdirSync(ploop);
      writeFileSync(join(ploop, 'root.hds'), 'x');
      writeFileSync(join(ploop, 'DiskDescriptor.xml'), 'x');
      symlinkSync(join(outside, 'precious'), join(pool, 'link'));
      symlinkSync(ploop, join(pool, 'ploop-link'));
      for (const name of ['link', 'ploop-link']) {
        const reference = `${host.name}/p/${name}`;
        for (const args of [
          ['vol', 'delete', reference],
          ['vol', 'download', reference, join(room.path, 'stolen')],
          ['vol', 'resize', reference, '10M'],
          ['vol', 'snapshot', 'create', reference],
          ['vol', 'upload', '/bin/true', reference],
        ]) {
          const refused = await controller.cli(...args);
          assert.ok(
            [3, 4, 5].includes(refused.status),
            `${args.join(' ')}: ${refused.status} ${refused.stderr}`,
          );
        }
      }
      assert.equal(readFileSync(join(outside, 'precious'), 'utf8'), 'precious');
      assert.deepEqual(readdirSync(ploop).sort(), ['DiskDescriptor.xml', 'root.hds']);
      assert.doesNotMatch(await controller.cliOk('vol', 'list'), /link/);
    });

    test('a volume swapped for a link, again and again while it is worked on, leads nowhere', async () => {
      const outside = join(room.path, 'victim');
      writeFileSync(outside, Buffer.alloc(4 * MIB, 7));
      const digest = await sha256(outside);
      await controller.cliOk('vol', 'create', `${host.name}/p/swap`, '--capacity', '4M');
      const real = join(pool, '.aside');
      const name = join(pool, 'swap');
      let stop = false;
      const swapping = (async () => {
        while (!stop) {
          if (existsSync(name)) renameSync(name, real);
          symlinkSync(outside, name);
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
          rmSync(name, { force: true });
          renameSync(real, name);
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
        }
      })().catch(() => undefined);
      for (let attempt = 0; attempt < 40; attempt++) {
        const url = `${path()}/swap`;
        await controller.fetch(`${url}/resize`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ capacityBytes: 4 * MIB + attempt * 4096, shrink: true }),
        });
        const read = await controller.fetch(`${url}/data`).catch(() => undefined);
        const bytes = read?.ok
          ? Buffer.from(await read.arrayBuffer().catch(() => new ArrayBuffer(0)))
          : Buffer.alloc(0);
        assert.ok(!bytes.includes(7), 'nothing of the victim was read');
      }
      stop = true;
      await swapping;
      assert.equal(await sha256(outside), digest, 'the victim was not touched');
    });
  });

  describe('uploads', () => {
    test('junk for a ploop volume is refused before the old one is touched', async () => {
      const reference = `${host.name}/p/ct`;
      await controller.cliOk('vol', 'create', reference, '--capacity', '8M', '--format', 'ploop');
      const before = await sha256(join(pool, 'ct/root.hds'));
      const junk = join(room.path, 'junk');
      for (const bytes of [Buffer.alloc(MIB), randomBytes(MIB)]) {
        writeFileSync(junk, bytes);
        const refused = await controller.cli('vol', 'upload', junk, reference, '--yes');
        assert.match(refused.stderr, /invalid-image/);
        assert.equal(await sha256(join(pool, 'ct/root.hds')), before);
      }
      await controller.cliOk('vol', 'snapshot', 'create', reference);
      writeFileSync(junk, readFileSync(join(pool, 'ct/root.hds')));
      const refused = await controller.cli('vol', 'upload', junk, reference, '--yes');
      assert.equal(refused.status, 4);
      assert.match(refused.stderr, /all existing snapshots will be lost/);
    });

    test('a qcow2 image with a backing file or a data file is refused', async () => {
      const base = join(room.path, 'base.raw');
      writeFileSync(base, Buffer.alloc(MIB));
      const backed = join(room.path, 'backed.qcow2');
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', backed]);
      const external = join(room.path, 'external.qcow2');
      execFileSync('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        '-o',
        `data_file=${join(room.path, 'data.raw')}`,
        external,
        '1M',
      ]);
      for (const file of [backed, external]) {
        const refused = await controller.cli(
          'vol',
          'upload',
          file,
          `${host.name}/p/evil`,
          '--format',
          'qcow2',
        );
        assert.match(refused.stderr, /refused.*invalid-image/s);
      }
      assert.ok(!existsSync(join(pool, 'evil')));
      await until('no job is left', async () =>
        (await controller.api<{ state: string }[]>('/jobs')).every(({ state }) =>
          ['done', 'failed', 'cancelled'].includes(state),
        ),
      );
    });

    test('two uploads to one volume: the second is refused, naming the first', async () => {
      let over = false;
      const body = new ReadableStream({
        async pull(stream) {
          await new Promise((resolve) => setTimeout(resolve, 200));
          if (over) stream.close();
          else stream.enqueue(new Uint8Array(MIB));
        },
      });
      const stop = new AbortController();
      const url = `/hosts/${host.name}/pools/p/volumes/busy`;
      const slow = fetch(`${controller.url}/api/v1${url}/data`, {
        method: 'PUT',
        body,
        signal: stop.signal,
        duplex: 'half',
        headers: {
          authorization: `Bearer ${controller.token}`,
          'content-range': `bytes 0-${64 * MIB - 1}/${64 * MIB}`,
        },
      } as RequestInit).catch(() => undefined);
      const job = await until('the upload is under way', async () =>
        (
          await controller.api<{ id: number; kind: string; state: string; doneBytes: number }[]>('/jobs')
        ).find((row) => row.kind === 'upload' && row.state === 'running'),
      );
      const file = join(room.path, 'second');
      writeFileSync(file, randomBytes(MIB));
      const refused = await controller.cli('vol', 'upload', file, `${host.name}/p/busy`);
      assert.equal(refused.status, 4);
      assert.match(refused.stderr, new RegExp(`job ${job.id} \\(upload`));
      over = true;
      stop.abort();
      await slow;
      await controller.cliOk('job', 'cancel', String(job.id));
      assert.equal((await controller.fetch(`${url}/upload`)).status, 404);
    });
  });

  describe('the trail', () => {
    test('when it cannot be written, changes are refused and nothing is changed', async () => {
      const store = new Database(join(controller.directory, 'stowage.db'));
      store.exec("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END");
      try {
        const refused = await controller.cli(
          'vol',
          'create',
          `${host.name}/p/unrecorded`,
          '--capacity',
          '1M',
        );
        assert.match(refused.stderr, /audit-unwritable/);
        assert.ok(!existsSync(join(pool, 'unrecorded')));
        assert.equal((await controller.cli('vol', 'download', `${host.name}/p/yes`, '-')).status, 1);
        assert.equal((await controller.cli('vol', 'list')).status, 0, 'looking goes on');
      } finally {
        store.exec('DROP TRIGGER full');
        store.close();
      }
      await controller.cliOk('vol', 'create', `${host.name}/p/recorded`, '--capacity', '1M');
      assert.match(await controller.cliOk('audit', 'verify'), /whole/);
    });
  });
});
