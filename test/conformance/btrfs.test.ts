import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { btrfsBackend } from '../../agent/backends/btrfs/index.ts';
import { runOk } from '../../agent/host/run.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { newVolumeSchema } from '../../shared/conf/volume.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';
import { received, sent } from './streams.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

const btrfs = (...args: string[]): void =>
  void execFileSync('btrfs', ['subvolume', ...args], { stdio: 'pipe' });

/** The directory of the pool of this test. */
let target = '';

if (isRoot)
  runBackendSuite({
    name: 'btrfs on a loop device',
    backend: btrfsBackend,
    neverOverwrites: true,
    skip: [
      encryptedElsewhere('files'),
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a directory is let go of whatever is open in it',
      },
    ],
    overwrite(name, bytes) {
      const fd = openSync(join(target, name, 'disk.raw'), 'r+');
      writeSync(fd, bytes);
      closeSync(fd);
    },
    ground(path, sizeMiB) {
      const mountPoint = join(path, 'mounted');
      mkdirSync(mountPoint);
      const mounted = mountFileSystem('btrfs', Math.max(sizeMiB, 128), mountPoint);
      target = join(mountPoint, 'pool');
      btrfs('create', target);
      const at = (...names: string[]): string => join(target, ...names);
      return {
        definition: { target: { path: target } },
        outside: {
          make(name, bytes) {
            btrfs('create', at(name));
            writeFileSync(at(name, 'disk.raw'), bytes);
          },
          change: (name) => appendFileSync(at(name, 'disk.raw'), Buffer.alloc(4096, 1)),
          rename: (from, to) => renameSync(at(from), at(to)),
          remove: (name) => btrfs('delete', at(name)),
        },
        away: () => renameSync(target, `${target}-elsewhere`),
        back: () => renameSync(`${target}-elsewhere`, target),
        [Symbol.asyncDispose]: () => mounted[Symbol.asyncDispose](),
      };
    },
  });

/** A started pool on a file system of its own, with one volume that went back to its snapshot `s`. */
async function poolWithHistory() {
  const room = scratch();
  const mountPoint = join(room.path, 'mounted');
  mkdirSync(mountPoint);
  const mounted = mountFileSystem('btrfs', 128, mountPoint);
  const path = join(mountPoint, 'pool');
  const definition = poolDefinitionSchema.parse({
    ...{ name: 'b', uuid: randomUUID(), type: 'btrfs' },
    target: { path },
  });
  const services = {
    agentId: 'a',
    stateDirectory: async () => room.path,
    imageDirectories: () => [],
    secret: () => '',
    ownsStorage: true,
    alone: <T>(work: () => Promise<T>) => work(),
  };
  const pool = new OpenPool(btrfsBackend.open(definition, services));
  await pool.build();
  await pool.start();
  const { id } = await pool.create(newVolumeSchema.parse({ name: 'v', capacityBytes: 1 << 20 }));
  writeFileSync(join(path, 'v/disk.raw'), Buffer.alloc(1 << 20, 1));
  await pool.createSnapshot('v', 's');
  writeFileSync(join(path, 'v/disk.raw'), Buffer.alloc(1 << 20, 2));
  await pool.switchSnapshot('v', 's');
  return {
    pool,
    path,
    id,
    /** As after a kill: another agent process opens it. */
    another: () => new OpenPool(btrfsBackend.open(definition, services)),
    mountPoint,
    async [Symbol.asyncDispose]() {
      await pool.stop().catch(() => pool.close());
      await mounted[Symbol.asyncDispose]();
      await room[Symbol.asyncDispose]();
    },
  };
}

describe('subvolumes of btrfs', { skip: !isRoot && 'needs root' }, () => {
  test('a volume that went back stays the same volume, also over a restart and out of the trash, with its snapshots', async () => {
    await using room = await poolWithHistory();
    const { pool, path, id } = room;
    await pool.stop();
    await pool.start();
    assert.equal((await pool.look('v')).id, id);
    assert.equal(readFileSync(join(path, 'v/disk.raw'))[0], 1);
    const { etag, format } = await pool.look('v');
    const trashId = randomUUID();
    await pool.trash('v', trashId, etag);
    await pool.stop();
    await pool.start();
    const back = await pool.restore(trashId, 'w', { id, format });
    assert.equal(back.id, id);
    assert.deepEqual(
      (await pool.listSnapshots('w')).map((snapshot) => snapshot.id),
      ['s'],
    );
  });

  test('what it is copied to is another volume, also where somebody else copies it', async () => {
    await using room = await poolWithHistory();
    const { pool, path, id } = room;
    await pool.clone('v', 'ours');
    btrfs('snapshot', join(path, 'v'), join(path, 'theirs'));
    await pool.refresh();
    const ids = new Set();
    for (const name of ['v', 'ours', 'theirs']) ids.add((await pool.look(name)).id);
    assert.equal(ids.size, 3);
    assert.ok(ids.has(id));
    assert.deepEqual(await pool.listSnapshots('ours'), []);
    await pool.remove('theirs');
    await pool.remove('ours');
    assert.equal((await pool.listSnapshots('v')).length, 1, 'the snapshots stay with the volume');
  });

  test('a kill at any step of a switch leaves the volume as it was, or as it is to be', async () => {
    await using room = await poolWithHistory();
    const { pool, path, id } = room;
    const next = join(path, '.stowage/switches', subvolumeId(join(path, '.stowage/snapshots')));
    const snapshot = join(path, '.stowage/snapshots', subvolumeId(join(path, '.stowage/snapshots')), 's');
    for (const exchanged of [false, true]) {
      await pool.stop();
      // As far as the agent may have come.
      btrfs('snapshot', snapshot, next);
      if (exchanged) {
        writeFileSync(
          join(path, '.stowage/ids', uuidOf(next)),
          `${subvolumeId(join(path, '.stowage/snapshots'))}
`,
        );
        renameSync(join(path, 'v'), join(path, 'old'));
        renameSync(next, join(path, 'v'));
        renameSync(join(path, 'old'), next);
      }
      await pool.start();
      assert.equal((await pool.look('v')).id, id, exchanged ? 'after the exchange' : 'before it');
      assert.deepEqual(readdirSync(join(path, '.stowage/switches')), []);
      assert.equal((await pool.listSnapshots('v')).length, 1);
    }
  });

  test('snapshots stay where a volume is moved elsewhere, and go with it also when a kill comes in between', async () => {
    await using room = await poolWithHistory();
    const { pool, path } = room;
    await pool.stop();
    const elsewhere = join(path, '../elsewhere');
    renameSync(join(path, 'v'), elsewhere);
    await pool.start();
    await assert.rejects(pool.look('v'), { code: 'volume-not-found' });
    await pool.stop();
    await assert.rejects(pool.delete(), { code: 'pool-not-empty' });
    renameSync(elsewhere, join(path, 'v'));
    await pool.start();
    assert.equal((await pool.listSnapshots('v')).length, 1);
    // A removal as far as a kill may have let it come.
    const kept = join(path, '.stowage/snapshots', subvolumeId(join(path, '.stowage/snapshots')));
    const removals = join(path, '.stowage/removals');
    for (const isGone of [false, true]) {
      await pool.stop();
      mkdirSync(removals, { recursive: true });
      renameSync(kept, join(removals, basename(kept)));
      if (isGone) btrfs('delete', join(path, 'v'));
      await pool.start();
      if (!isGone) assert.equal((await pool.listSnapshots('v')).length, 1);
    }
    assert.deepEqual(readdirSync(removals), []);
    await pool.stop();
    await pool.delete();
    assert.equal(existsSync(path), false);
  });

  test('snapshots of Proxmox VE beside a volume are no volumes, and keep it from being removed', async () => {
    await using room = await poolWithHistory();
    const { pool, path } = room;
    btrfs('snapshot', '-r', join(path, 'v'), join(path, 'v@before'));
    await pool.refresh();
    await assert.rejects(pool.look('v@before'), { code: 'volume-not-found' });
    await assert.rejects(pool.remove('v', { deleteSnapshots: true }), { code: 'volume-has-snapshots' });
    await assert.rejects(pool.clone('v', 'v@x'), { code: 'invalid-name' });
  });

  test('a volume that a process has open does not go back, nor away, under its hands', async () => {
    await using room = await poolWithHistory();
    const { pool, path } = room;
    const child = spawn('sleep', ['60'], {
      stdio: [openSync(join(path, 'v/disk.raw'), 'r+'), 'ignore', 'ignore'],
    });
    await once(child, 'spawn');
    try {
      for (const work of [
        () => pool.switchSnapshot('v', 's'),
        () => pool.resize('v', 512, true),
        () => pool.remove('v', { deleteSnapshots: true }),
      ])
        await assert.rejects(work(), { code: 'volume-in-use' });
    } finally {
      child.kill();
      await once(child, 'exit');
    }
    await pool.switchSnapshot('v', 's');
  });

  test('what somebody writes beside the image of a volume says nothing of it', async () => {
    await using room = await poolWithHistory();
    const { pool, path, id } = room;
    btrfs('create', join(path, 'theirs'));
    writeFileSync(join(path, 'theirs/disk.raw'), Buffer.alloc(4096));
    const uid = subvolumeId(join(path, '.stowage/snapshots'));
    writeFileSync(join(path, 'theirs/.stowage-id'), `${uid} ${uuidOf(join(path, 'theirs'))}\n`);
    btrfs('create', join(path, 'odd'));
    execFileSync('mkfifo', [join(path, 'odd/disk.raw')]);
    await pool.refresh();
    assert.notEqual((await pool.look('theirs')).id, id);
    assert.deepEqual(await pool.listSnapshots('theirs'), []);
    assert.match((await pool.look('odd')).damaged ?? '', /no regular file/);
    await pool.remove('theirs');
    assert.equal((await pool.listSnapshots('v')).length, 1);
  });

  test('a volume that cannot be removed keeps its snapshots', async () => {
    await using room = await poolWithHistory();
    const { pool, path } = room;
    btrfs('create', join(path, 'v/inside'));
    await assert.rejects(pool.remove('v', { deleteSnapshots: true }), { code: 'tool-failed' });
    assert.equal((await pool.listSnapshots('v')).length, 1);
    btrfs('delete', join(path, 'v/inside'));
    await pool.remove('v', { deleteSnapshots: true });
    assert.deepEqual(readdirSync(join(path, '.stowage/removals')), []);
  });

  test('what a wipe has left that was killed can be wiped again', async () => {
    await using room = await poolWithHistory();
    const { pool, path } = room;
    const encryption = { format: 'luks' as const, secret: randomUUID() };
    for (const format of ['qcow2', 'luks'] as const) {
      const asked = newVolumeSchema.parse({ name: format, capacityBytes: 8 << 20, format, encryption });
      const { id } = await pool.create({ ...asked, passphrase: 'one' });
      const fd = openSync(join(path, format, `disk.${format}`), 'r+');
      writeSync(fd, Buffer.alloc(4096));
      closeSync(fd);
      const torn = await pool.look(format);
      assert.notEqual(torn.damaged, undefined);
      assert.deepEqual(torn.encryption, encryption);
      await assert.rejects(pool.wipe(format, 'zero'), { code: 'secret-missing' });
      const whole = await pool.wipe(format, 'zero', 'one');
      assert.equal(whole.damaged, undefined);
      assert.equal(whole.id, id);
      assert.deepEqual(whole.encryption, encryption);
      assert.ok(whole.capacityBytes > 0);
      await using _opened = await pool.open(format, { as: 'content', passphrase: 'one' });
    }
  });

  test('a stream that holds anything but one raw volume makes nothing', async () => {
    await using room = await poolWithHistory();
    const { pool, path, mountPoint } = room;
    const at = (...names: string[]): string => join(mountPoint, ...names);
    /** A stream of read-only subvolumes, each with what is made in it. */
    const streamOf = (made: Record<string, (directory: string) => void>): Buffer => {
      rmSync(at('stream'), { force: true });
      for (const [name, make] of Object.entries(made)) {
        btrfs('create', at(name));
        make(at(name));
        execFileSync('btrfs', ['property', 'set', '-t', 'subvol', at(name), 'ro', 'true']);
      }
      const names = Object.keys(made).map((name) => at(name));
      execFileSync('btrfs', ['-q', 'send', '-e', '-f', at('stream'), '--', ...names]);
      for (const name of names) btrfs('delete', name);
      return readFileSync(at('stream'));
    };
    const image = (directory: string): void =>
      writeFileSync(join(directory, 'disk.raw'), Buffer.alloc(1 << 20, 3));
    const huge = (directory: string): void => {
      execFileSync('truncate', ['--size', '16P', join(directory, 'disk.raw')]);
    };
    for (const [why, made] of [
      [/'vm-1-disk-0', which is no snapshot/, { 'vm-1-disk-0': image }],
      [/'one' and 'two'|'two' and 'one'/, { 'one@s': image, 'two@s': image }],
      [
        /image of 0 bytes/,
        { 'one@s': (directory: string) => writeFileSync(join(directory, 'disk.raw'), '') },
      ],
      [/image of 18014398509481984 bytes/, { 'one@s': huge }],
      [/other files/, { 'one@s': () => undefined }],
      [
        /other files/,
        { 'one@s': (directory: string) => symlinkSync('/etc/passwd', join(directory, 'disk.raw')) },
      ],
      [
        /other files/,
        {
          'one@s': (directory: string) => {
            image(directory);
            writeFileSync(join(directory, 'more'), '');
          },
        },
      ],
    ] as const)
      await assert.rejects(received(pool, 'w', streamOf(made)), { code: 'invalid-image', message: why });
    assert.deepEqual(readdirSync(path).sort(), ['.stowage', 'v']);
    assert.deepEqual(readdirSync(join(path, '.stowage/streams')), []);
    const owned = streamOf({
      'one@s': (directory) => {
        image(directory);
        chmodSync(join(directory, 'disk.raw'), 0o777);
      },
    });
    const made = await received(pool, 'w', owned);
    assert.equal(made.permissions?.mode, 0o600);

    // Whoever makes one that no number tells harms no other.
    btrfs('create', join(path, 'huge'));
    huge(join(path, 'huge'));
    await pool.refresh();
    const told = await pool.look('huge');
    assert.equal(told.capacityBytes, 0);
    assert.match(told.damaged!, /18014398509481984 bytes/);
    assert.equal((await pool.look('w')).id, made.id);
  });

  test('what a kill leaves of a stream goes with the next start', async () => {
    await using room = await poolWithHistory();
    const stream = await sent(room.pool, 'v', { snapshot: 's', older: true });
    const killed = room.another();
    await room.pool.stop();
    await killed.start();
    await killed.beginSending('v', { snapshot: 's', older: true });
    const { tool, args } = await killed.beginReceiving('w');
    await runOk(tool, [...args], { stdin: Readable.from([stream]) });
    const streams = join(room.path, '.stowage/streams');
    assert.equal(readdirSync(streams).length, 2);
    await killed.stop();
    await room.pool.start();
    assert.deepEqual(readdirSync(streams), []);
    assert.deepEqual(
      (await room.pool.listSnapshots('v')).map(({ id }) => id),
      ['s'],
    );
  });

  test('a directory that is not on btrfs is told', async () => {
    await using room = scratch();
    const definition = poolDefinitionSchema.parse({
      ...{ name: 'b', uuid: randomUUID(), type: 'btrfs' },
      target: { path: join(room.path, 'pool') },
    });
    const services = {
      agentId: 'a',
      stateDirectory: async () => room.path,
      imageDirectories: () => [],
      secret: () => '',
      ownsStorage: true,
      alone: <T>(work: () => Promise<T>) => work(),
    };
    const pool = new OpenPool(btrfsBackend.open(definition, services));
    await assert.rejects(pool.build(), { code: 'invalid-argument' });
    mkdirSync(join(room.path, 'pool'));
    await assert.rejects(pool.start(), { code: 'pool-inaccessible' });
    assert.deepEqual(readdirSync(join(room.path, 'pool')), [], 'nothing is left there');
  });
});

/** The one id in the directory of snapshots. */
const subvolumeId = (directory: string): string => readdirSync(directory)[0]!;

const uuidOf = (path: string): string =>
  /\n\s*UUID:\s*(\S+)/.exec(execFileSync('btrfs', ['subvolume', 'show', path], { encoding: 'utf8' }))?.[1] ??
  '';
