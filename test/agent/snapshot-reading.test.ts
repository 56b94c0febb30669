import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { changeVolume } from '../../agent/formats/ploop/volume.ts';
import { FileImage } from '../../agent/images/file-image.ts';
import type { Image } from '../../agent/images/image.ts';
import type { OpenPool } from '../../agent/pools/open-pool.ts';
import { SharedReading } from '../../agent/volumes/blocks/shared-reading.ts';
import type { NewVolume } from '../../shared/conf/volume.ts';
import { until } from '../support/controller.ts';
import { openDirPool } from '../support/dir-pool.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

const wanted = (name: string, format: NewVolume['format'], capacityBytes = 4 * MIB): NewVolume => ({
  ...{ name, format, capacityBytes },
  preallocate: false,
});

/** Writes as a guest does: a byte over a range in KiB. */
const write = (path: string, byte: number, from: number, length: number): void =>
  void execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P ${byte} ${from}k ${length}k`, path]);

async function read(pool: OpenPool, name: string, snapshot?: string): Promise<Buffer> {
  await using opened = await pool.open(name, { as: 'content', snapshot });
  const [content] = opened.sources;
  const bytes = Buffer.alloc(content!.sizeBytes);
  await content!.read(bytes, 0);
  await opened.checkUnchanged();
  return bytes;
}

const filled = (sizeBytes: number, ...ranges: [byte: number, fromKib: number, kib: number][]): Buffer => {
  const bytes = Buffer.alloc(sizeBytes);
  for (const [byte, from, length] of ranges) bytes.fill(byte, from * 1024, (from + length) * 1024);
  return bytes;
};

/** Without the bytes: a difference of megabytes takes minutes to print. */
const assertSame = (actual: Buffer, expected: Buffer): void => assert.ok(actual.equals(expected));

describe('reading a snapshot', () => {
  test('each of several in a qcow2 image is read as it was, with the size that the disk had', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    const file = join(path, 'v');
    await pool.create(wanted('v', 'qcow2'));
    write(file, 1, 0, 2048);
    await pool.createSnapshot('v', 'one');
    write(file, 2, 64, 256);
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'discard 1024k 512k', file]);
    await pool.createSnapshot('v', 'two');
    await pool.deleteSnapshot('v', 'one').then(() => pool.createSnapshot('v', 'three'));
    write(file, 3, 0, 4096);
    assertSame(await read(pool, 'v', 'two'), filled(4 * MIB, [1, 0, 1024], [2, 64, 256], [1, 1536, 512]));
    assertSame(await read(pool, 'v', 'three'), await read(pool, 'v', 'two'));
    assertSame(await read(pool, 'v'), filled(4 * MIB, [3, 0, 4096]));
    await assert.rejects(read(pool, 'v', 'one'), { code: 'snapshot-not-found' });
    await assert.rejects(pool.open('v', { as: 'image', snapshot: 'two' }), { code: 'not-supported' });
    const raw = join(room.path, 'raw');
    execFileSync('qemu-img', ['convert', '-l', 'snapshot.name=two', '-O', 'raw', file, raw]);
    await using told = await FileImage.open(raw, 'read');
    const bytes = Buffer.alloc(told.sizeBytes);
    await told.read(bytes, 0);
    assert.ok(bytes.equals(await read(pool, 'v', 'two')), 'qemu-img reads the same');
  });

  test('of a disk that has grown since the snapshot has the size that it had', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    await pool.create(wanted('v', 'qcow2'));
    write(join(path, 'v'), 1, 0, 4096);
    await pool.createSnapshot('v', 'small');
    await pool.resize('v', 8 * MIB, false);
    write(join(path, 'v'), 2, 0, 8192);
    assertSame(await read(pool, 'v', 'small'), filled(4 * MIB, [1, 0, 4096]));
    await using opened = await pool.open('v', { as: 'content', snapshot: 'small' });
    assert.equal(opened.layout.capacityBytes, 4 * MIB);
  });

  test('of a linked clone what it stands on is read too', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    await pool.create(wanted('base', 'qcow2'));
    write(join(path, 'base'), 1, 0, 4096);
    await pool.setBase('base', true);
    await pool.cloneLinked('base', 'v');
    write(join(path, 'v'), 2, 0, 64);
    await pool.createSnapshot('v', 'one');
    write(join(path, 'v'), 3, 0, 128);
    assertSame(await read(pool, 'v', 'one'), filled(4 * MIB, [1, 0, 4096], [2, 0, 64]));
  });

  test('it stays as it is while a guest writes, and one that is deleted under the reader is told', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    const file = join(path, 'v');
    await pool.create(wanted('v', 'qcow2'));
    write(file, 1, 0, 4096);
    await pool.createSnapshot('v', 'one');
    {
      // Whoever has the image open for writing holds qemu's lock on it, as a guest does.
      const guest = spawn('qemu-io', ['-f', 'qcow2', file], { stdio: ['pipe', 'pipe', 'inherit'] });
      let said = '';
      guest.stdout.on('data', (chunk) => {
        said += chunk;
      });
      const ended = new Promise((done) => guest.once('exit', done));
      using _ended = { [Symbol.dispose]: () => void guest.kill('SIGKILL') };
      guest.stdin.write('write -P 7 0 4096k\n');
      await until('the guest to write', () => said.includes('wrote'));
      assertSame(await read(pool, 'v', 'one'), filled(4 * MIB, [1, 0, 4096]));
      guest.stdin.end('quit\n');
      await ended;
    }
    await using opened = await pool.open('v', { as: 'content', snapshot: 'one' });
    await opened.checkUnchanged();
    execFileSync('qemu-img', ['snapshot', '-d', 'one', file]);
    await assert.rejects(opened.checkUnchanged(), { code: 'volume-in-use' });
    execFileSync('qemu-img', ['snapshot', '-c', 'one', file]);
    await assert.rejects(opened.checkUnchanged(), { code: 'volume-in-use' }, 'another one of the name');
  });

  test('a table that lies about where a snapshot is, is an error', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    const file = join(path, 'v');
    await pool.create(wanted('v', 'qcow2'));
    await pool.createSnapshot('v', 'one');
    await using image = await FileImage.open(file, 'write');
    const at = Buffer.alloc(8);
    await image.read(at, 64);
    const table = Number(at.readBigUInt64BE());
    const entry = Buffer.alloc(56);
    await image.read(entry, table);
    const lies: ((entry: Buffer) => void)[] = [
      (lie) => void lie.writeBigUInt64BE(1n << 50n, 0),
      (lie) => void lie.writeUInt32BE(0xffff_ffff, 8),
      // Its first table maps less than the disk had.
      (lie) => void lie.writeUInt32BE(0, 8),
      (lie) => void lie.writeBigUInt64BE(1n << 40n, 48),
    ];
    for (const tell of lies) {
      const lie = Buffer.from(entry);
      tell(lie);
      await image.write(lie, table);
      await assert.rejects(read(pool, 'v', 'one'), { code: 'invalid-image' });
    }
    await image.write(entry, table);
    assertSame(await read(pool, 'v', 'one'), Buffer.alloc(4 * MIB));
  });

  test('of a ploop volume each is read through its own chain, not through what was written since', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    await pool.create(wanted('v', 'ploop', 8 * MIB));
    const put = (index: number, bytes: Buffer): Promise<void> =>
      changeVolume(join(path, 'v'), async (volume) => {
        const { images, topGuid } = volume.descriptor;
        const top = images.find((image) => image.guid === topGuid)!.file;
        await using chain = await volume.openChain(undefined, (name) => name === top);
        await chain.top.begin();
        await chain.top.writeCluster(index, bytes);
        await chain.top.commit();
      });
    const [first, second, third] = [randomBytes(MIB), randomBytes(MIB), randomBytes(MIB)];
    await put(0, first);
    const one = await pool.createSnapshot('v');
    await put(0, second);
    await put(1, second);
    const two = await pool.createSnapshot('v');
    await put(1, third);
    const zeros = Buffer.alloc(MIB);
    for (const [snapshot, clusters] of [
      [one, [first, zeros]],
      [two, [second, second]],
      [undefined, [second, third]],
    ] as const)
      assert.ok((await read(pool, 'v', snapshot)).subarray(0, 2 * MIB).equals(Buffer.concat(clusters)));
    await assert.rejects(read(pool, 'v', randomUUID()), { code: 'snapshot-not-found' });
    const top = (await pool.listSnapshots('v')).find(({ current }) => current)!.id;
    await assert.rejects(read(pool, 'v', top), { code: 'snapshot-not-found' }, 'the present state is none');
    await using opened = await pool.open('v', { as: 'content', snapshot: two });
    // As a kill in the middle of a merge leaves it: the file is neither what it was nor gone.
    const descriptor = join(path, 'v/DiskDescriptor.xml');
    const text = readFileSync(descriptor, 'utf8');
    const shot = new RegExp(
      `(<GUID>${one.replace(/[{}]/g, '\\$&')}</GUID>\\s*<ParentGUID>[^<]*</ParentGUID>)`,
    );
    writeFileSync(descriptor, text.replace(shot, '$1<Temporary/>'));
    assert.notEqual(readFileSync(descriptor, 'utf8'), text);
    await assert.rejects(read(pool, 'v', one), { code: 'snapshot-not-found', message: /was deleted/ });
    writeFileSync(descriptor, text);
    await pool.deleteSnapshot('v', one);
    await assert.rejects(
      opened.checkUnchanged(),
      { code: 'volume-in-use' },
      'what it is read from was merged',
    );
    assert.ok((await read(pool, 'v', two)).subarray(0, 2 * MIB).equals(Buffer.concat([second, second])));
  });
});

describe('what must be made ready to be read', () => {
  const image = (path: string) => async (): Promise<Image> => FileImage.open(path, 'read');

  test('is there while anybody reads it, and let go of by the last one', async () => {
    await using room = scratch();
    const path = join(room.path, 'node');
    const reading = new SharedReading();
    let released = 0;
    const how = {
      async prepare() {
        writeFileSync(path, 'there', { flag: 'wx' });
        return async () => {
          released++;
          rmSync(path);
        };
      },
      open: image(path),
    };
    for (let round = 0; round < 50; round++) {
      const opened = await Promise.all([1, 2, 3].map(() => reading.open('v', how)));
      // Closing twice is closing once, and a new reader may come while the last one goes.
      const closing = opened.flatMap((each) => [each.close(), each.close()]);
      const another = await reading.open('v', how);
      await Promise.all(closing);
      assert.ok(existsSync(path));
      await another.close();
      assert.ok(!existsSync(path));
    }
    assert.ok(released >= 50);
  });

  test('is let go of when it could not be opened', async () => {
    const reading = new SharedReading();
    const calls: string[] = [];
    const how = {
      async prepare() {
        calls.push('prepare');
        return async () => void calls.push('release');
      },
      open: () => Promise.reject(new Error('no node')),
    };
    await assert.rejects(reading.open('v', how), /no node/);
    assert.deepEqual(calls, ['prepare', 'release']);
  });
});
