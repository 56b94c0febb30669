import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { zfsBackend } from '../../agent/backends/zfs/index.ts';
import { Zvols } from '../../agent/backends/zfs/zvols.ts';
import { runOk } from '../../agent/host/run.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { received, sent } from '../conformance/streams.ts';
import { runBackendSuite } from '../conformance/suite.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';

const ZFS = 'zfs';
const zfs = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

/** With bytes in or out. */
const stream = (args: string[], input?: Buffer): Buffer =>
  execFileSync(ZFS, args, { input, maxBuffer: 64 << 20, stdio: ['pipe', 'pipe', 'ignore'] });

const MIB = 1 << 20;
let grounds = 0;

/** The zpool of all tests, made by the first of them that runs. */
let isMade = false;
function makePool(): void {
  if (!isMade) zfs('zpool', 'create', 'tank', '/dev/vdb');
  isMade = true;
}

const write = (name: string, bytes: Buffer): Promise<void> =>
  writeTo(`/dev/zvol/tank/ground-${grounds}/${name}`, bytes);

async function writeTo(path: string, bytes: Buffer): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      const fd = openSync(path, 'r+');
      writeSync(fd, bytes);
      fsyncSync(fd);
      closeSync(fd);
      return;
    } catch (error) {
      if (tries > 100) throw error;
      // udev makes the node a moment later.
      await setTimeout(50);
    }
  }
}

if (!inTestHost)
  testInTestHost(import.meta.url, 'zvols of OpenZFS in a machine', { disksMiB: [512], zfs: true });
else {
  runBackendSuite({
    name: 'zfs with OpenZFS',
    backend: zfsBackend,
    neverOverwrites: true,
    skip: [
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a zpool stays imported: others may use it',
      },
    ],
    overwrite: write,
    ground() {
      makePool();
      const name = `tank/ground-${++grounds}`;
      zfs('zfs', 'create', '-o', 'mountpoint=none', name);
      const at = (volume: string): string => `${name}/${volume}`;
      return {
        definition: { source: { name }, target: { path: `/dev/zvol/${name}` } },
        outside: {
          async make(volume, bytes) {
            zfs('zfs', 'create', '-s', '-V', '4M', at(volume));
            await write(volume, bytes);
          },
          change: (volume) => write(volume, Buffer.alloc(4096, 1)),
          rename: (from, to) => void zfs('zfs', 'rename', at(from), at(to)),
          remove: (volume) => void zfs('zfs', 'destroy', at(volume)),
        },
        away: () => void zfs('zfs', 'rename', name, `${name}.away`),
        back: () => void zfs('zfs', 'rename', `${name}.away`, name),
        async [Symbol.asyncDispose]() {
          zfs('zfs', 'destroy', '-r', name);
        },
      };
    },
  });

  test('streams of Proxmox VE come in and go out; a file system does not, and is mounted nowhere', async () => {
    makePool();
    zfs('zfs', 'create', '-o', 'mountpoint=none', 'tank/streams');
    const state = mkdtempSync(join(tmpdir(), 'zfs-'));
    const definition = poolDefinitionSchema.parse({
      ...{ name: 'z', uuid: randomUUID(), type: 'zfs', source: { name: 'tank/streams' } },
      target: { path: '/dev/zvol/tank/streams' },
    });
    const host = {
      agentId: 'a',
      stateDirectory: async () => state,
      imageDirectories: () => [],
      secret: () => '',
      ownsStorage: true,
      alone: <T>(work: () => Promise<T>) => work(),
    };
    const pool = new OpenPool(zfsBackend.open(definition, host));
    await pool.start();
    const streamOf = (name: string, ...flags: string[]): Buffer => stream(['send', ...flags, name]);

    zfs(
      'zfs',
      'create',
      '-s',
      '-V',
      '4M',
      '-o',
      'snapdev=visible',
      '-o',
      'readonly=on',
      'tank/vm-100-disk-0',
    );
    zfs('zfs', 'snapshot', 'tank/vm-100-disk-0@one');
    zfs('zfs', 'snapshot', 'tank/vm-100-disk-0@__migration__');
    const migrated = streamOf('tank/vm-100-disk-0@__migration__', '-Rpv');
    const options = { snapshot: '__migration__', deleteSnapshot: '__migration__' };
    await assert.rejects(received(pool, 'vm-100-disk-0', migrated, { snapshot: 'one' }), {
      code: 'invalid-image',
    });
    const made = await received(pool, 'vm-100-disk-0', migrated, options);
    assert.deepEqual([made.format, made.snapshotCount], ['raw', 1]);
    const properties = zfs(
      'zfs',
      'get',
      '-H',
      '-o',
      'value',
      'snapdev,readonly',
      'tank/streams/vm-100-disk-0',
    );
    assert.deepEqual(properties.split('\n').slice(0, 2), ['hidden', 'off']);

    const back = await sent(pool, 'vm-100-disk-0', { snapshot: 'one', older: true });
    stream(['recv', '-F', 'tank/back'], back);
    assert.match(zfs('zfs', 'list', '-H', '-t', 'all', '-r', '-o', 'name', 'tank/back'), /tank\/back@one/);

    zfs('zfs', 'create', '-o', 'mountpoint=/mnt/hostile', 'tank/hostile');
    writeFileSync('/mnt/hostile/file', '');
    zfs('zfs', 'create', '-V', '4M', 'tank/hostile/below');
    zfs('zfs', 'snapshot', '-r', 'tank/hostile@s');
    const hostile = streamOf('tank/hostile@s', '-Rp');
    zfs('zfs', 'destroy', '-r', 'tank/hostile');
    await assert.rejects(received(pool, 'w', hostile), { code: 'invalid-image' });
    assert.throws(() => readFileSync('/mnt/hostile/file'), /ENOENT/);
    assert.deepEqual(zfs('zfs', 'list', '-H', '-r', '-o', 'name', 'tank/streams').trim().split('\n'), [
      'tank/streams',
      'tank/streams/vm-100-disk-0',
    ]);

    // What a kill leaves, whatever it is, goes with the next start.
    const left = '.stowage.00000000.new-0123456789ab';
    stream(['recv', '-u', `tank/streams/${left}`], hostile);
    const { args } = await pool.beginReceiving('w');
    stream(['recv', '-u', args.at(-1)!], hostile);
    const killed = args.at(-1)!;
    await pool.stop();
    const again = new OpenPool(zfsBackend.open(definition, host));
    await again.start();
    const there = zfs('zfs', 'list', '-H', '-r', '-o', 'name', 'tank/streams');
    assert.ok(!there.includes(killed));
    // Another agent's stays.
    assert.ok(there.includes(left));
    await again.stop();
  });

  test('a copy is brought up to date by what has changed, and by nothing else; raw tools speak the same', async () => {
    makePool();
    zfs('zfs', 'create', '-o', 'mountpoint=none', 'tank/replica');
    const state = mkdtempSync(join(tmpdir(), 'zfs-'));
    const definition = poolDefinitionSchema.parse({
      ...{ name: 'z', uuid: randomUUID(), type: 'zfs', source: { name: 'tank/replica' } },
      target: { path: '/dev/zvol/tank/replica' },
    });
    const pool = new OpenPool(
      zfsBackend.open(definition, {
        ...{ agentId: 'a', ownsStorage: true, imageDirectories: () => [], secret: () => '' },
        stateDirectory: async () => state,
        alone: <T>(work: () => Promise<T>) => work(),
      }),
    );
    await pool.start();
    const put = async (name: string, bytes: Buffer): Promise<void> => {
      await writeTo(`/dev/zvol/tank/replica/${name}`, bytes);
    };
    const held = async (name: string, snapshot?: string): Promise<Buffer> => {
      await using opened = await pool.open(name, { as: 'content', snapshot });
      const bytes = Buffer.alloc(MIB);
      await opened.sources[0]!.read(bytes, 0);
      return bytes;
    };
    const idsOf = async (name: string): Promise<string[]> =>
      (await pool.listSnapshots(name)).map(({ id }) => id);
    const [one, two, three] = [randomBytes(MIB), randomBytes(MIB), randomBytes(MIB)];
    await pool.create({ name: 'v', capacityBytes: 4 * MIB, format: 'raw', preallocate: false });
    await put('v', one);
    await pool.createSnapshot('v', 'a');
    const copy = await received(pool, 'w', await sent(pool, 'v', { snapshot: 'a', older: true }));
    await put('v', two);
    await pool.createSnapshot('v', 'b');
    await pool.createSnapshot('v', 'c');
    await put('v', three);
    await pool.createSnapshot('v', 'd');

    for (const wrong of [
      { snapshot: 'a', base: 'c' },
      { snapshot: 'c', base: 'no' },
      { snapshot: 'c', base: 'c' },
    ])
      await assert.rejects(sent(pool, 'v', { older: true, ...wrong }), { code: 'snapshot-not-found' });
    const changes = await sent(pool, 'v', { snapshot: 'c', older: true, base: 'a' });
    await assert.rejects(received(pool, 'w', changes, { base: 'no' }), { code: 'snapshot-not-found' });
    // A cut one leaves it at one of its snapshots, and it is brought on from there.
    await assert.rejects(received(pool, 'w', changes.subarray(0, changes.length - 1000), { base: 'a' }));
    const between = await held('w');
    assert.ok([one, two].some((bytes) => bytes.equals(between)));
    const now = await pool.look('w');
    assert.equal(now.id, copy.id);
    const [base = ''] = (await idsOf('w')).slice(-1);
    const rest = await sent(pool, 'v', { snapshot: 'c', older: true, base });
    const updated = await received(pool, 'w', rest, { base, snapshot: 'c' });
    assert.deepEqual([updated.id, updated.snapshotCount], [copy.id, 3]);
    assert.notEqual(updated.etag, copy.etag);
    assert.deepEqual(await idsOf('w'), ['a', 'b', 'c']);
    assert.ok((await held('w')).equals(two));
    assert.ok((await held('w', 'a')).equals(one));
    await assert.rejects(received(pool, 'w', changes, { base: 'a' }), { code: 'volume-changed' });

    // Nothing goes that was there before; and to its last snapshot nothing is to be done, unless it was written to.
    await assert.rejects(
      received(pool, 'w', await sent(pool, 'v', { snapshot: 'd', older: false, base: 'c' }), {
        ...{ base: 'c', snapshot: 'd', deleteSnapshot: 'a' },
      }),
      { code: 'invalid-image' },
    );
    assert.deepEqual(await idsOf('w'), ['a', 'b', 'c', 'd']);
    zfs('zfs', 'destroy', 'tank/replica/w@d');
    zfs('zfs', 'rollback', 'tank/replica/w@c');

    // Raw tools write what is read here, and read what is written here.
    zfs('zfs', 'set', 'volmode=none', 'tank/replica/v');
    const byTool = stream(['send', '-p', '-i', '@c', 'tank/replica/v@d']);
    zfs('zfs', 'inherit', 'volmode', 'tank/replica/v');
    zfs('zfs', 'snapshot', 'tank/replica/w@mine');
    await assert.rejects(received(pool, 'w', byTool, { base: 'c' }), { code: 'volume-changed' });
    zfs('zfs', 'destroy', 'tank/replica/w@mine');
    await put('w', one);
    await assert.rejects(received(pool, 'w', byTool, { base: 'c' }), {
      code: 'volume-changed',
      message: /was written to since/,
    });
    assert.ok((await held('w')).equals(one), 'what was written to it stays');
    zfs('zfs', 'rollback', 'tank/replica/w@c');
    // A kill right after the stream: that the volume has changed is told by the next start.
    const property = (name: string): string =>
      zfs('zfs', 'get', '-H', '-o', 'value', name, 'tank/replica/w').trim();
    const before = await pool.look('w');
    const { id, tool, args } = await pool.beginReceiving('w', { base: 'c', snapshot: 'd' });
    await runOk(tool, [...args], { stdin: Readable.from([byTool]) });
    await pool.dropStream(id);
    await pool.stop();
    assert.equal(property('stowage:receiving'), 'on');
    await pool.start();
    assert.equal(property('stowage:receiving'), '-');
    assert.notEqual((await pool.look('w')).etag, before.etag);
    assert.ok((await held('w')).equals(three));
    // What its sender kept from users is not kept from them here.
    assert.equal(property('volmode'), 'default');
    zfs('zfs', 'rollback', '-r', 'tank/replica/w@c');
    await received(pool, 'w', byTool, { base: 'c', snapshot: 'd' });
    assert.equal(property('volmode'), 'default');
    assert.ok((await held('w')).equals(three));
    stream(['recv', 'tank/raw'], await sent(pool, 'v', { snapshot: 'a', older: false }));
    stream(['recv', 'tank/raw'], await sent(pool, 'v', { snapshot: 'd', older: true, base: 'a' }));
    assert.match(zfs('zfs', 'list', '-H', '-t', 'snapshot', '-r', '-o', 'name', 'tank/raw'), /tank\/raw@d/);

    // A whole one goes onto no volume.
    await assert.rejects(
      received(pool, 'w', await sent(pool, 'v', { snapshot: 'd', older: false }), { base: 'd' }),
    );
    assert.ok((await held('w')).equals(three));
    await pool.stop();
  });

  test('a dataset that holds files, or may hold them unseen, is not destroyed', async () => {
    makePool();
    zfs('zfs', 'create', '-o', 'mountpoint=/mnt/files', 'tank/files');
    const zvols = new Zvols('tank/files', []);
    writeFileSync('/mnt/files/small', 'a few bytes');
    await assert.rejects(zvols.destroy(), {
      code: 'pool-not-empty',
      message: /holds files, such as 'small'/,
    });
    zfs('zfs', 'unmount', 'tank/files');
    await assert.rejects(zvols.destroy(), { code: 'pool-not-empty', message: /is not mounted/ });
    zfs('zfs', 'mount', 'tank/files');
    rmSync('/mnt/files/small');
    await zvols.destroy();
    assert.throws(() => zfs('zfs', 'list', 'tank/files'), /does not exist/);
  });
}
