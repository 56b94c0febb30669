import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { qcow2 } from '../../agent/formats/qcow2/index.ts';
import { locate } from '../../agent/host/mounts.ts';
import { FileImage } from '../../agent/images/file-image.ts';
import { openIdentities } from '../../agent/volumes/identities.ts';
import { until } from '../support/controller.ts';
import { openDirPool } from '../support/dir-pool.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

const volume = (name: string, format: 'raw' | 'qcow2' | 'ploop' = 'raw', capacityBytes = MIB) => ({
  name,
  capacityBytes,
  format,
  preallocate: false,
});

const transfer = (name: string, more = {}) => ({
  id: randomUUID(),
  pool: 'p',
  volume: name,
  format: 'raw' as const,
  representation: 'image' as const,
  parts: [{ name: '', sizeBytes: MIB, dense: false }],
  replace: true,
  allowUsed: false,
  digest: 'gmac' as const,
  ...more,
});

describe('a pool of files', () => {
  test('a volume that is renamed on the host keeps its id, and its format whatever a guest wrote into it', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    const seen = new Map<string, string>();
    pool.on('change', (change) => {
      for (const { name } of change.gone) seen.delete(name);
      for (const each of change.volumes) seen.set(each.name, `${each.id} ${each.format}`);
      // No change tells of one volume under two names.
      assert.equal(new Set([...seen.values()].map((words) => words.split(' ')[0])).size, seen.size);
    });
    const { id } = await pool.create(volume('a'));
    const header = join(room.path, 'header');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', header, '64M']);
    writeFileSync(join(path, 'a'), readFileSync(header), { flag: 'r+' });
    // By the watch, and by a look at everything.
    renameSync(join(path, 'a'), join(path, 'b'));
    await until('the pool to change', () => seen.has('b'));
    assert.equal(seen.get('b'), `${id} raw`);
    await pool.stop();
    seen.clear();
    renameSync(join(path, 'b'), join(path, 'c'));
    await pool.start();
    assert.equal(seen.get('c'), `${id} raw`);
  });

  test('volumes that changed names while nobody looked keep their ids', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    const [a, b] = [await pool.create(volume('a')), await pool.create(volume('b'))];
    await pool.stop();
    for (const [from, to] of [
      ['a', 'x'],
      ['b', 'a'],
      ['x', 'b'],
    ] as const)
      renameSync(join(path, from), join(path, to));
    await pool.start();
    assert.deepEqual([(await pool.look('a')).id, (await pool.look('b')).id], [b.id, a.id]);
  });

  test('a rename that was killed at any step leaves one volume with its id, under one of the names', async () => {
    for (const isRenamed of [false, true]) {
      await using room = scratch();
      const path = join(room.path, 'pool');
      await using opened = await openDirPool(path);
      const { pool } = opened;
      const { id } = await pool.create(volume('a'));
      await pool.setAttributes('a', { notes: 'mine' });
      await pool.stop();
      const log = join(path, '.stowage', 'identities.log');
      const identities = await openIdentities(log);
      await identities.set('b', { ...identities.get('a')! });
      await identities[Symbol.asyncDispose]();
      if (isRenamed) renameSync(join(path, 'a'), join(path, 'b'));
      await pool.start();
      const [there, gone] = isRenamed ? ['b', 'a'] : ['a', 'b'];
      assert.equal((await pool.look(there)).id, id);
      assert.equal((await pool.look(there)).notes, 'mine');
      await assert.rejects(pool.look(gone), { code: 'volume-not-found' });
      await pool.stop();
      const after = await openIdentities(log);
      assert.deepEqual(
        [...after.entries()].map(([name]) => name),
        [there],
      );
      await after[Symbol.asyncDispose]();
      await pool.start();
    }
  });

  test('where files cannot be renamed without replacing, a rename that was killed is done again', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    const { id } = await pool.create(volume('a'));
    await pool.stop();
    linkSync(join(path, 'a'), join(path, 'b'));
    await pool.start();
    await pool.rename('a', 'b');
    assert.equal((await pool.look('b')).id, id);
    assert.ok(!existsSync(join(path, 'a')));
  });

  test('an overlay that somebody made stands on its base too, and one that was rebased does not any more', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('b'));
    await pool.setBase('b', true);
    const made = ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', 'b'];
    execFileSync('qemu-img', [...made, join(path, 'c')]);
    await pool.cloneLinked('b', 'd');
    await pool.refresh();
    const taking = [() => pool.remove('b'), () => pool.setBase('b', false), () => pool.rename('b', 'x')];
    for (const take of taking) await assert.rejects(take, { code: 'volume-has-clones', message: /c, d$/ });
    for (const name of ['c', 'd'])
      execFileSync('qemu-img', ['rebase', '-q', '-F', 'raw', '-b', '', join(path, name)]);
    await pool.refresh();
    assert.equal((await pool.look('d')).parentId, undefined);
    await pool.remove('b');
  });

  test('linked clones are made no deeper than they are read, and a base is checked', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('0', 'qcow2'));
    let depth = 0;
    for (; ; depth++) {
      await pool.setBase(String(depth), true);
      try {
        await pool.cloneLinked(String(depth), String(depth + 1));
      } catch (error) {
        assert.equal((error as { code: string }).code, 'not-supported');
        break;
      }
    }
    assert.ok(depth > 50, String(depth));
    await using content = await pool.open(String(depth), { as: 'content' });
    await content.sources[0]!.read(Buffer.alloc(512), 0);
    assert.deepEqual(await pool.check('0', false), []);
  });

  test('a replacement of a linked clone that fails leaves it one', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('b'));
    const { id } = await pool.setBase('b', true);
    await pool.cloneLinked('b', 'c');
    const spec = transfer('c');
    const stage = await pool.stage(spec);
    await stage.seal('');
    // Nobody replaces what nobody takes away.
    execFileSync('chattr', ['+i', join(path, 'c')]);
    await assert.rejects(stage.publish());
    execFileSync('chattr', ['-i', join(path, 'c')]);
    assert.equal((await pool.look('c')).parentId, id);
    await assert.rejects(pool.remove('b'), { code: 'volume-has-clones' });
    await stage.drop();
  });

  test('a rename that is refused as somebody took the name hardens nobody else, and loses nothing of the volume', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('b'));
    await pool.setAttributes('b', { notes: 'mine' });
    const { id } = await pool.setBase('b', true);
    writeFileSync(join(path, 't'), 'theirs');
    await assert.rejects(pool.rename('b', 't'), { code: 'volume-exists' });
    writeFileSync(join(path, 't'), 'theirs still');
    await pool.setBase('b', false);
    renameSync(join(path, 'b'), join(path, 'moved'));
    await pool.refresh();
    const { notes, id: now } = await pool.look('moved');
    assert.deepEqual([now, notes], [id, 'mine']);
  });

  test('a file that nobody may write to is no base by that alone', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    writeFileSync(join(path, 'cd.iso'), Buffer.alloc(2048), { mode: 0o444 });
    writeFileSync(join(path, 'base-9000-disk-0.raw'), Buffer.alloc(2048), { mode: 0o444 });
    await pool.refresh();
    assert.ok(!(await pool.look('cd.iso')).isBase);
    assert.equal((await pool.look('base-9000-disk-0.raw')).isBase, true, 'Proxmox VE makes them so');
    await pool.resize('cd.iso', 4096, false);
  });

  test('a base that comes back from the trash is guarded as before', {
    skip: isRoot ? false : 'only root sets the flag of files that nobody changes',
  }, async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('b'));
    const was = await pool.setBase('b', true);
    await pool.trash('b', '0123456789ab', was.etag);
    assert.equal((await pool.restore('0123456789ab', 'b', was)).isBase, true);
    assert.throws(() => rmSync(join(path, 'b')), { code: 'EPERM' });
    // A kill in the middle of a rename: the next start guards it again.
    execFileSync('chattr', ['-i', join(path, 'b')]);
    await pool.stop();
    await pool.start();
    assert.throws(() => rmSync(join(path, 'b')), { code: 'EPERM' });
  });

  test('root does not write to a base, nor take it away, and Stowage does', {
    skip: isRoot ? false : 'only root sets the flag of files that nobody changes',
  }, async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await pool.create(volume('a'));
    await pool.setBase('a', true);
    const base = join(path, 'a');
    for (const change of [
      () => writeFileSync(base, 'x'),
      () => rmSync(base),
      () => renameSync(base, `${base}2`),
    ])
      assert.throws(change, { code: 'EPERM' });
    // A kill may have come between the two steps.
    execFileSync('chattr', ['-i', base]);
    assert.equal((await pool.look('a')).isBase, true);
    await pool.setBase('a', true);
    assert.match(execFileSync('lsattr', [base], { encoding: 'utf8' }), /i/);
    await pool.rename('a', 'b');
    assert.match(execFileSync('lsattr', [join(path, 'b')], { encoding: 'utf8' }), /i/);
    await pool.remove('b');
    assert.ok(!existsSync(join(path, 'b')));
  });

  test('what is no volume is not replaced by one', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    mkdirSync(join(path, 'precious'));
    writeFileSync(join(path, 'precious/file'), 'x');
    await assert.rejects(opened.pool.stage(transfer('precious')), { code: 'path-escapes-pool' });
    assert.ok(existsSync(join(path, 'precious/file')));
  });

  test('snapshots that were made while an upload ran are not lost by it', async () => {
    await using room = scratch();
    await using opened = await openDirPool(join(room.path, 'pool'));
    const { pool } = opened;
    await pool.create(volume('v', 'qcow2'));
    const spec = transfer('v', { format: 'qcow2', representation: 'content' });
    await using stage = await pool.stage(spec);
    await pool.createSnapshot('v', 'before');
    await stage.seal('note');
    await assert.rejects(stage.publish(), { code: 'volume-has-snapshots' });
    assert.deepEqual(
      (await pool.listSnapshots('v')).map((snapshot) => snapshot.id),
      ['before'],
    );
  });

  test('what a killed wipe put aside is overwritten only when it is no volume any more', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    const bytes = randomBytes(MIB);
    await using opened = await openDirPool(path);
    await opened.pool.create(volume('v'));
    writeFileSync(join(path, 'v'), bytes);
    await opened.pool.stop();
    const trash = join(path, '.stowage/trash');
    linkSync(join(path, 'v'), join(trash, 'wipe-of-a-volume'));
    writeFileSync(join(trash, 'wipe-of-nothing'), bytes);
    await opened.pool.start();
    await until('the pool to change', () => !existsSync(join(trash, 'wipe-of-nothing')));
    await until('the pool to change', () => !existsSync(join(trash, 'wipe-of-a-volume')));
    assert.ok(readFileSync(join(path, 'v')).equals(bytes));
  });

  test('leftovers that cannot be removed, and a stage without a record, keep no pool from starting', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    await opened.pool.stop();
    mkdirSync(join(path, '.stowage/stages', 'no-record'));
    mkdirSync(join(path, '.stowage/stages', 'torn'));
    writeFileSync(join(path, '.stowage/stages/torn/state.json'), '{"spec":');
    await opened.pool.start();
    assert.ok(!existsSync(join(path, '.stowage/stages/no-record')));
    assert.ok(!existsSync(join(path, '.stowage/stages/torn')));
  });

  test('a capacity that no table of ploop could hold is refused before anything is made', async () => {
    await using room = scratch();
    const path = join(room.path, 'pool');
    await using opened = await openDirPool(path);
    const { pool } = opened;
    await assert.rejects(pool.create(volume('v', 'ploop', 900 * 2 ** 40)), { code: 'too-large' });
    assert.ok(!existsSync(join(path, 'v')));
    await pool.create(volume('w', 'ploop'));
    await assert.rejects(pool.resize('w', 900 * 2 ** 40, false), { code: 'too-large' });
    assert.equal((await pool.look('w')).capacityBytes, MIB);
  });
});

describe('qcow2', () => {
  test('snapshots are read as qemu-img reads them', async () => {
    await using room = scratch();
    const path = join(room.path, 'image');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    const names = [
      'one',
      'zwei mit Leerzeichen',
      'ŝnapŝoto-3',
      ...Array.from({ length: 200 }, (_, n) => `n${n}`),
    ];
    for (const name of names) execFileSync('qemu-img', ['snapshot', '-c', name, path]);
    execFileSync('qemu-img', ['snapshot', '-d', 'one', path]);
    await using image = await FileImage.open(path, 'read');
    assert.deepEqual(
      (await qcow2.snapshots!.list(image)).map(({ id }) => id),
      names.slice(1),
    );
  });

  test('a first table that does not cover the capacity is refused', async () => {
    await using room = scratch();
    const path = join(room.path, 'image');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    const bytes = readFileSync(path);
    bytes.writeBigUInt64BE(64n << 40n, 24);
    writeFileSync(path, bytes);
    await using image = await FileImage.open(path, 'read');
    await assert.rejects(qcow2.adopt(image), /first table is too small/);
  });
});

test('links are followed without asking what may not answer', async () => {
  await using room = scratch();
  mkdirSync(join(room.path, 'real/below'), { recursive: true });
  symlinkSync('real', join(room.path, 'link'));
  symlinkSync('../link/below', join(room.path, 'real/relative'));
  assert.deepEqual(locate(join(room.path, 'link/relative/x')), {
    path: join(room.path, 'real/below/x'),
    mayHang: false,
  });
  symlinkSync('circle', join(room.path, 'circle'));
  assert.equal(locate(join(room.path, 'circle')).mayHang, false);
});
