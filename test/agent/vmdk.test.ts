import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { vmdk } from '../../agent/formats/vmdk/index.ts';
import { FileImage } from '../../agent/images/file-image.ts';
import { openDirPool } from '../support/dir-pool.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const GRAIN = 64 << 10;
const SECTOR = 512;

/** A disk with data here and there, whose size is a multiple of nothing but sectors. */
function sample(path: string, sizeBytes = 70 * MIB + 512 * 3): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (const [at, length] of [
    [0, 100],
    [3 * GRAIN - 7, 20],
    [33 * MIB, 2 * MIB],
    [sizeBytes - 700, 700],
  ] as const)
    randomBytes(length).copy(bytes, at);
  const file = openSync(path, 'w');
  ftruncateSync(file, sizeBytes);
  for (let at = 0; at < sizeBytes; at += GRAIN) {
    const piece = bytes.subarray(at, at + GRAIN);
    if (piece.some((byte) => byte !== 0)) writeSync(file, piece, 0, piece.length, at);
  }
  closeSync(file);
  return bytes;
}

const convert = (from: string, to: string, options: string): void =>
  void execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', '-o', options, from, to]);

async function contentOf(path: string): Promise<{ bytes: Buffer; heldBytes: number }> {
  await using image = await FileImage.open(path, 'read');
  const content = await vmdk.openContent(image, () => assert.fail('it opens nothing else'));
  const bytes = Buffer.alloc(content.sizeBytes);
  let heldBytes = 0;
  for await (const { offset, length } of content.extents(0, content.sizeBytes)) {
    heldBytes += length;
    await content.read(bytes.subarray(offset, offset + length), offset);
  }
  // What is between its extents is zeros, and read so.
  const whole = Buffer.alloc(content.sizeBytes);
  await content.read(whole, 0);
  assert.ok(whole.equals(bytes));
  return { bytes, heldBytes };
}

const refused = async (path: string, words: RegExp): Promise<void> => {
  await using image = await FileImage.open(path, 'read');
  await assert.rejects(vmdk.adopt(image), { code: 'invalid-image', message: words });
};

describe('vmdk', () => {
  test('what qemu-img has written is read, sparse and packed, and its holes are holes', async () => {
    await using room = scratch();
    const [raw, image] = [join(room.path, 'raw'), join(room.path, 'image')];
    const bytes = sample(raw);
    for (const options of [
      'subformat=monolithicSparse',
      'subformat=monolithicSparse,zeroed_grain=on',
      'subformat=streamOptimized',
    ]) {
      convert(raw, image, options);
      const read = await contentOf(image);
      assert.ok(read.bytes.equals(bytes), options);
      assert.ok(read.heldBytes < 4 * MIB, `${options}: ${read.heldBytes}`);
    }
  });

  test('what is made here qemu-img reads, and finds nothing wrong with', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const { pool } = host;
    const bytes = sample(join(path, 'raw'));
    const image = join(path, 'disk.vmdk');
    convert(join(path, 'raw'), image, 'subformat=streamOptimized');
    await pool.refresh();
    const found = await pool.look('disk.vmdk');
    assert.deepEqual([found.format, found.capacityBytes], ['vmdk', bytes.length]);
    const made = await pool.create({
      name: 'new',
      capacityBytes: 8 * MIB,
      format: 'vmdk',
      preallocate: false,
    });
    assert.deepEqual([made.format, made.capacityBytes], ['vmdk', 8 * MIB]);
    execFileSync('qemu-img', ['check', '-q', '-f', 'vmdk', join(path, 'new')]);
    await assert.rejects(
      pool.create({ name: 'full', capacityBytes: MIB, format: 'vmdk', preallocate: true }),
      { code: 'not-supported', message: /not preallocated/ },
    );
    // A linked clone of such a base is read through both.
    await pool.setBase('disk.vmdk', true);
    await pool.cloneLinked('disk.vmdk', 'clone');
    await using opened = await pool.open('clone', { as: 'content' });
    const read = Buffer.alloc(bytes.length);
    await opened.sources[0]!.read(read, 0);
    assert.ok(read.equals(bytes));
  });

  test('an overlay that does not say in which format it stands on a disk of VMware is read through that', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const bytes = sample(join(path, 'raw'), 4 * MIB);
    convert(join(path, 'raw'), join(path, 'base.vmdk'), 'subformat=monolithicSparse');
    const overlay = join(path, 'overlay');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'base.vmdk', '-F', 'vmdk', overlay]);
    // As older versions of qemu made them: without the extension that names the format.
    const image = readFileSync(overlay);
    const extension = image.indexOf(Buffer.from('e2792aca', 'hex'));
    image.writeUInt32BE(0x12345678, extension);
    writeFileSync(overlay, image);
    await host.pool.refresh();
    await using opened = await host.pool.open('overlay', { as: 'content' });
    const read = Buffer.alloc(bytes.length);
    await opened.sources[0]!.read(read, 0);
    assert.ok(read.equals(bytes));
  });

  test('an image that is not alone is refused', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', at('base.vmdk'), '8M']);
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-f',
      'vmdk',
      '-b',
      at('base.vmdk'),
      '-F',
      'vmdk',
      at('child.vmdk'),
    ]);
    await refused(at('child.vmdk'), /stands on another \(.*base\.vmdk\)/);
    for (const subformat of ['monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
      execFileSync('qemu-img', [
        'create',
        '-q',
        '-f',
        'vmdk',
        '-o',
        `subformat=${subformat}`,
        at(`${subformat}.vmdk`),
        '8M',
      ]);
      await refused(at(`${subformat}.vmdk`), /data is in other files/);
    }
    // Its descriptor names another file beside it, or it says that it has no data itself.
    const edit = (name: string, work: (bytes: Buffer) => void): string => {
      copyFileSync(at('base.vmdk'), at(name));
      const bytes = readFileSync(at(name));
      work(bytes);
      writeFileSync(at(name), bytes);
      return at(name);
    };
    const line = (bytes: Buffer): number => bytes.indexOf('RW 16384 SPARSE');
    await refused(
      edit('flat', (bytes) => void bytes.write('RW 16384 FLAT   ', line(bytes))),
      /FLAT is refused/,
    );
    await refused(
      edit('two', (bytes) => void bytes.write('RW 1 SPARSE "a"\nRW 1 SPARSE "b"\n', line(bytes))),
      /2 files/,
    );
    await refused(
      edit('none', (bytes) => void bytes.writeBigUInt64LE(0n, 12)),
      /data is in other files/,
    );
    // What qemu would open is refused, wherever it finds the name of another file.
    writeFileSync(at('secret'), Buffer.alloc(8 * MIB, 7));
    const parent = (bytes: Buffer, before: string): void => {
      const text = bytes.toString('latin1', SECTOR, 21 * SECTOR).split('\0')[0]!;
      const hint = `${before}parentFileNameHint="${at('secret')}"\n`;
      bytes.write(text.replace(/parentCID=\w+\n/, `parentCID=fffffffe\n${hint}`), SECTOR);
    };
    const headerTells = (offset: number, length: number) => (bytes: Buffer) => {
      parent(bytes, '');
      bytes.writeBigUInt64LE(BigInt(offset), 28);
      bytes.writeBigUInt64LE(BigInt(length), 36);
    };
    await refused(edit('hidden', headerTells(0, 0)), /stands on another \(.*secret\)/);
    await refused(edit('elsewhere', headerTells(100, 1)), /stands on another \(.*secret\)/);
    await refused(
      edit('comment', (bytes) => parent(bytes, '# ')),
      /stands on another \(.*secret\)/,
    );
    await refused(
      edit('cid', (bytes) => {
        bytes.write('# parentCID=00000001 ', bytes.indexOf('# Extent description'));
      }),
      /stands on another/,
    );
  });

  test('what qemu would open with another file is damaged, and is given to no guest', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using host = await openDirPool(path);
    const [base, child] = [join(path, 'base.vmdk'), join(path, 'child.vmdk')];
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', base, '8M']);
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', '-b', base, '-F', 'vmdk', child]);
    await host.pool.refresh();
    assert.match((await host.pool.look('child.vmdk')).damaged ?? '', /stands on another/);
    assert.equal((await host.pool.look('base.vmdk')).damaged, undefined);
  });

  test('an image that lies about where its bytes are, or is cut, is an error and no wrong content', async () => {
    await using room = scratch();
    const [raw, sparse, packed] = [
      join(room.path, 'raw'),
      join(room.path, 'sparse'),
      join(room.path, 'packed'),
    ];
    const bytes = sample(raw, 4 * MIB);
    convert(raw, sparse, 'subformat=monolithicSparse');
    convert(raw, packed, 'subformat=streamOptimized');
    const refusedReading = async (whole: Buffer, what: string): Promise<void> => {
      const path = join(room.path, 'broken');
      writeFileSync(path, whole);
      const read = await contentOf(path).then(
        (content) => content.bytes,
        (error: { code?: string }) => error.code,
      );
      // Bytes that nothing refers to may be any.
      if (Buffer.isBuffer(read)) assert.ok(read.equals(bytes), `${what}: read as something else`);
      else assert.ok(['invalid-image', 'not-supported'].includes(String(read)), `${what}: ${read}`);
    };
    for (const image of [sparse, packed]) {
      const whole = readFileSync(image);
      for (const part of [0, 4, 511, 512, 600, whole.length / 2, whole.length - 1, whole.length - 600])
        await refusedReading(whole.subarray(0, Math.floor(part)), `${image} cut at ${part}`);
      // Every field of the header, with what is too large for it.
      for (let at = 4; at < 80; at += 4) {
        const changed = Buffer.from(whole);
        changed.writeUInt32LE(0xffff_ffff, at);
        // A larger disk is one with more zeros; and where the descriptor, and the other copy of the tables, lie content is not read by.
        if ([8, 12, 16, 28, 32, 36, 40, 48, 52, 64, 68].includes(at)) continue;
        await refusedReading(changed, `${image} with another word at ${at}`);
      }
    }
    // A header at the end that says something else than the one at the beginning.
    const packedWhole = readFileSync(packed);
    const marker = Buffer.alloc(SECTOR);
    marker.writeBigUInt64LE(1n, 0);
    marker.writeUInt32LE(3, 12);
    const footed = (capacity: bigint): Buffer => {
      const padding = Buffer.alloc(-packedWhole.length & (SECTOR - 1));
      const header = packedWhole.subarray(0, SECTOR);
      const bytes = Buffer.concat([packedWhole, padding, marker, header, Buffer.alloc(SECTOR)]);
      bytes.writeBigUInt64LE(2n ** 64n - 1n, 56);
      bytes.writeBigUInt64LE(capacity, 12);
      return bytes;
    };
    const broken = join(room.path, 'broken');
    writeFileSync(broken, footed(BigInt(bytes.length / SECTOR)));
    assert.ok((await contentOf(broken)).bytes.equals(bytes));
    writeFileSync(broken, footed(BigInt(bytes.length / SECTOR) / 2n));
    await refused(broken, /do not agree/);
    // Cut where its last bytes lie, and with all tables in one place.
    writeFileSync(broken, packedWhole.subarray(0, packedWhole.length / 2));
    await refused(broken, /outside/);
    // The directory leads out of the image, and a table does.
    const whole = readFileSync(sparse);
    const directory = Number(whole.readBigUInt64LE(56)) * 512;
    const table = whole.readUInt32LE(directory) * 512;
    const shared = Buffer.from(whole);
    shared.writeBigUInt64LE(BigInt(64 * GRAIN), 12);
    for (let index = 0; index < 512; index++)
      shared.writeUInt32LE(shared.readUInt32LE(table), table + index * 4);
    writeFileSync(broken, shared);
    await refused(broken, /more grains than it has room for/);
    for (const at of [directory, table]) {
      const changed = Buffer.from(whole);
      changed.writeUInt32LE(0x7fff_ffff, at);
      await refusedReading(changed, `an entry at ${at}`);
    }
  });

  test('a changed header is refused, or is read as qemu-img reads it', async () => {
    await using room = scratch();
    const [raw, image, changed, byTool] = ['raw', 'image', 'changed', 'tool'].map((name) =>
      join(room.path, name),
    ) as [string, string, string, string];
    sample(raw, 4 * MIB);
    let both = 0;
    for (const subformat of ['monolithicSparse', 'streamOptimized']) {
      convert(raw, image, `subformat=${subformat}`);
      const whole = readFileSync(image);
      for (let at = 4; at < 80; at++) {
        // A larger disk is one with more zeros, and takes longer to compare.
        if (at > 12 && at < 20) continue;
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 1 << (at % 8);
        writeFileSync(changed, bytes);
        const read = await contentOf(changed).catch(({ code }: { code?: string }) => {
          assert.ok(code === 'invalid-image' || code === 'not-supported', `byte ${at}: ${code}`);
          return undefined;
        });
        if (!read) continue;
        try {
          execFileSync('qemu-img', ['convert', '-f', 'vmdk', '-O', 'raw', changed, byTool], {
            stdio: 'ignore',
          });
        } catch {
          // qemu refuses more than is refused here.
          continue;
        }
        both++;
        assert.ok(readFileSync(byTool).equals(read.bytes), `${subformat}, bit ${at % 8} of byte ${at}`);
      }
      // Packed by one field, and not by the other.
      if (subformat !== 'streamOptimized') continue;
      whole.writeUInt32LE(whole.readUInt32LE(8) & 0xffff, 8);
      writeFileSync(changed, whole);
      await assert.rejects(contentOf(changed), { code: 'not-supported' });
    }
    assert.ok(both > 20);
  });

  test('a disk of terabytes costs what is in it', async () => {
    await using room = scratch();
    const path = join(room.path, 'huge.vmdk');
    execFileSync('qemu-img', ['create', '-q', '-f', 'vmdk', path, '1T']);
    execFileSync('qemu-io', ['-f', 'vmdk', '-c', 'write -P 7 900G 64k', path]);
    await using image = await FileImage.open(path, 'read');
    const content = await vmdk.openContent(image, () => assert.fail());
    const extents: unknown[] = [];
    for await (const extent of content.extents(0, content.sizeBytes)) extents.push(extent);
    assert.deepEqual(extents, [{ offset: 900 * 2 ** 30, length: GRAIN }]);
  });
});
