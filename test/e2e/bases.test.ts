import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, linkSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { FleetVolume, VolumeDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { domainWith } from '../support/virsh.ts';

const MIB = 1 << 20;

describe('bases, linked clones and what is kept with a volume', () => {
  const room = scratch();
  const at = (name: string): string => join(room.path, name);
  const content = randomBytes(3 * MIB);
  let controller: TestController;
  const show = async (name: string): Promise<VolumeDetails> =>
    JSON.parse(await controller.cliOk('vol', 'show', `local/p/${name}`, '-o', 'json'));
  const upload = (name: string): Promise<string> =>
    controller.cliOk('vol', 'upload', at('file'), `local/p/${name}`);

  before(async () => {
    controller = await TestController.start(at('controller'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
    for (const pool of ['p', 'other'])
      await controller.cliOk('pool', 'create-as', 'local', pool, 'dir', '--target', at(pool), '--build');
    writeFileSync(at('file'), content);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('a base and its linked clones, from the command line', async () => {
    await upload('debian');
    await controller.cliRefused('invalid-argument', 'vol', 'clone', '--linked', 'local/p/debian', 'web');
    await controller.cliOk('vol', 'base', 'local/p/debian');
    await controller.cliOk('vol', 'clone', '--linked', 'local/p/debian', 'web');
    const [base, web] = [await show('debian'), await show('web')];
    assert.equal(base.isBase, true);
    assert.deepEqual(base.clones, ['local/p/web']);
    assert.equal(web.parent, 'local/p/debian');
    assert.ok(web.allocationBytes < MIB, 'it takes no room for what it shares');
    for (const [...words] of [
      ['vol', 'delete', 'local/p/debian', '--yes'],
      ['vol', 'delete', 'local/p/debian', '--yes', '--allow-used'],
      ['vol', 'delete', 'local/p/debian', '--yes', '--trash'],
      ['vol', 'migrate', 'local/p/debian', 'local/other'],
      ['vol', 'wipe', 'local/p/debian', '--yes'],
      ['vol', 'base', '--undo', 'local/p/debian'],
    ])
      assert.match(await controller.cliRefused('volume-has-clones', ...words), /web/);
    for (const [...words] of [
      ['vol', 'resize', 'local/p/debian', '8M'],
      ['vol', 'upload', at('file'), 'local/p/debian', '--yes', '--allow-used'],
    ])
      await controller.cliRefused('volume-is-base', ...words);
    const { stderr } = await controller.cli('vol', 'download', 'local/p/web', at('overlay'));
    assert.match(stderr, /--as content gives all of it/);
    await controller.cliOk('vol', 'download', '--as', 'content', 'local/p/web', at('out'));
    assert.ok(readFileSync(at('out')).subarray(0, content.length).equals(content));
  });

  test('a volume as a block device of its host: it stays as it is until that is over', {
    skip: !isRoot && 'only root makes loop devices',
  }, async () => {
    await upload('disk');
    const device = (await controller.cliOk('vol', 'map', 'local/p/disk')).trim();
    try {
      assert.match(device, /^\/dev\/loop\d+$/);
      assert.equal(
        (await controller.cliOk('vol', 'map', 'local/p/disk')).trim(),
        device,
        'and no second one',
      );
      assert.ok(readFileSync(device).equals(content));
      writeFileSync(device, 'written', { flag: 'r+', flush: true });
      assert.equal(readFileSync(at('p/disk')).toString('latin1', 0, 7), 'written');
      for (const [...words] of [
        ['vol', 'delete', 'local/p/disk', '--yes'],
        ['vol', 'delete', 'local/p/disk', '--yes', '--trash'],
        ['vol', 'resize', 'local/p/disk', '8M'],
        ['vol', 'wipe', 'local/p/disk', '--yes'],
        ['vol', 'base', 'local/p/disk'],
        ['vol', 'rename', 'local/p/disk', 'other'],
        ['vol', 'upload', at('file'), 'local/p/disk', '--yes'],
      ])
        assert.match(
          await controller.cliRefused('volume-in-use', ...words),
          new RegExp(`mapped as ${device}`),
        );
      const held = openSync(device, 'r');
      assert.match(await controller.cliRefused('volume-in-use', 'vol', 'unmap', 'local/p/disk'), /is open/);
      closeSync(held);
    } finally {
      await controller.cliOk('vol', 'unmap', 'local/p/disk');
    }
    assert.match(await controller.cliOk('vol', 'unmap', 'local/p/disk'), /was not mapped/);
    assert.equal(execFileSync('losetup', ['-j', at('p/disk')], { encoding: 'utf8' }), '');
    // That of a base takes no write.
    await controller.cliOk('vol', 'base', 'local/p/disk');
    const readOnly = (await controller.cliOk('vol', 'map', 'local/p/disk')).trim();
    assert.throws(() => writeFileSync(readOnly, 'x', { flag: 'r+' }));
    assert.equal(readFileSync(`/sys/block/${basename(readOnly)}/ro`, 'utf8').trim(), '1');
    await controller.cliOk('vol', 'unmap', 'local/p/disk');
    await controller.cliOk('vol', 'create', 'local/p/image', '--capacity', '1M', '--format', 'qcow2');
    await controller.cliRefused('not-supported', 'vol', 'map', 'local/p/image');
    await controller.cliOk('vol', 'create', 'local/p/odd', '--capacity', '1000');
    assert.match(await controller.cliRefused('not-supported', 'vol', 'map', 'local/p/odd'), /its end/);
    await controller.cliRefused('volume-not-found', 'vol', 'map', 'local/p/nowhere');
  });

  test('what is mounted is named, and stays mapped when that is over', {
    skip: !isRoot && 'only root makes loop devices',
  }, async () => {
    await controller.cliOk('vol', 'create', 'local/p/mounted', '--capacity', '8M');
    const mountPoint = at('mount point');
    mkdirSync(mountPoint);
    const device = (await controller.cliOk('vol', 'map', 'local/p/mounted')).trim();
    try {
      execFileSync('mkfs.ext4', ['-q', device]);
      execFileSync('mount', [device, mountPoint]);
      try {
        assert.match(
          await controller.cliRefused('volume-in-use', 'vol', 'unmap', 'local/p/mounted'),
          new RegExp(`${device} is mounted at ${mountPoint}: umount it first`),
        );
      } finally {
        execFileSync('umount', [mountPoint]);
      }
      assert.match(
        await controller.cliOk('vol', 'show', 'local/p/mounted'),
        new RegExp(`mapped as +${device}`),
      );
    } finally {
      assert.match(
        await controller.cliOk('vol', 'unmap', 'local/p/mounted'),
        new RegExp(`not mapped any more: ${device}`),
      );
    }
    assert.doesNotMatch(await controller.cliOk('vol', 'show', 'local/p/mounted'), /mapped as/);
  });

  test('a block device that others have made of a volume, or of a part of it, is known by its file', {
    skip: !isRoot && 'only root makes loop devices',
  }, async () => {
    await upload('lent');
    const run = (command: string): string =>
      execFileSync('unshare', ['--mount', 'sh', '-c', command], { encoding: 'utf8' }).trim();
    // Where its path is another one.
    const whole = run(`mount --bind ${at('p')} /mnt && losetup --find --show /mnt/lent`);
    try {
      assert.match(
        await controller.cliRefused('volume-in-use', 'vol', 'delete', 'local/p/lent', '--yes'),
        new RegExp(`mapped as ${whole}`),
      );
      assert.equal((await controller.cliOk('vol', 'map', 'local/p/lent')).trim(), whole);
      const moved = ['vol', 'migrate', 'local/p/lent', 'local/other'];
      await controller.cliRefused('volume-in-use', ...moved);
      await controller.cliRefused('volume-in-use', ...moved, '--allow-used');
      await controller.cliRefused('volume-not-found', 'vol', 'show', 'local/other/lent');
    } finally {
      await controller.cliOk('vol', 'unmap', 'local/p/lent');
    }
    // By another name of the same file.
    linkSync(at('p/lent'), at('alias'));
    const alias = run(`losetup --find --show ${at('alias')}`);
    try {
      assert.match(
        await controller.cliRefused('volume-in-use', 'vol', 'delete', 'local/p/lent', '--yes'),
        new RegExp(`mapped as ${alias}`),
      );
    } finally {
      await controller.cliOk('vol', 'unmap', 'local/p/lent');
      unlinkSync(at('alias'));
    }
    const part = run(`losetup --find --show --offset 4096 ${at('p/lent')}`);
    try {
      assert.match(
        await controller.cliRefused('volume-in-use', 'vol', 'map', 'local/p/lent'),
        /stands on a part of it/,
      );
    } finally {
      await controller.cliOk('vol', 'unmap', 'local/p/lent');
    }
    assert.equal(execFileSync('losetup', ['-j', at('p/lent')], { encoding: 'utf8' }), '');
    assert.ok(!execFileSync('losetup', ['--all'], { encoding: 'utf8' }).includes(part));
    await controller.cliOk('vol', 'delete', 'local/p/lent', '--yes');
  });

  test('a linked clone that is moved stands on nothing, and its base is free', async () => {
    await controller.cliOk('vol', 'set', 'local/p/web', '--notes', 'the shop');
    await controller.cliOk('vol', 'migrate', 'local/p/web', 'local/other');
    const moved = await controller.api<FleetVolume>('/hosts/local/pools/other/volumes/web');
    assert.equal(moved.backingStore, undefined);
    assert.equal(moved.parentId, undefined);
    assert.equal(moved.notes, 'the shop');
    await controller.cliOk('vol', 'download', '--as', 'content', 'local/other/web', at('moved'));
    assert.ok(readFileSync(at('moved')).subarray(0, content.length).equals(content));
    await controller.cliOk('vol', 'base', '--undo', 'local/p/debian');
    await controller.cliOk('vol', 'resize', 'local/p/debian', '8M');
  });

  test('a clone in the trash keeps its base, and stands on it when it is back', async () => {
    await upload('b');
    await controller.cliOk('vol', 'base', 'local/p/b');
    await controller.cliOk('vol', 'clone', '--linked', 'local/p/b', 'c');
    await controller.cliOk('vol', 'delete', 'local/p/c', '--trash');
    assert.match(
      await controller.cliRefused('volume-has-clones', 'vol', 'delete', 'local/p/b', '--yes'),
      /c \(\w+ in the trash\)/,
    );
    const [row] = JSON.parse(await controller.cliOk('trash', 'list', 'local/p', '-o', 'json'));
    await controller.cliOk('trash', 'restore', `local/p/${row.id}`);
    assert.equal((await show('c')).parent, 'local/p/b');
    await controller.cliRefused('volume-has-clones', 'vol', 'delete', 'local/p/b', '--yes');
    await controller.cliOk('vol', 'delete', 'local/p/c', '--yes');
    await controller.cliOk('vol', 'delete', 'local/p/b', '--yes');
  });

  test('an overlay of somebody else keeps its base in the trash too, whatever is allowed', async () => {
    await upload('d');
    await controller.cliOk('vol', 'base', 'local/p/d');
    execFileSync('qemu-img', [...['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', 'd'], at('p/foreign')]);
    await controller.cliOk('pool', 'refresh', 'local/p');
    await controller.cliOk('vol', 'delete', 'local/p/foreign', '--trash');
    for (const words of [
      ['delete', 'local/p/d', '--yes', '--allow-used'],
      ['delete', 'local/p/d', '--trash', '--allow-used'],
      ['rename', 'local/p/d', 'e', '--allow-used'],
      ['base', '--undo', 'local/p/d', '--allow-used'],
    ])
      assert.match(
        await controller.cliRefused('volume-has-clones', 'vol', ...words),
        /foreign \(\w+ in the trash\)/,
      );
    await controller.cliOk('trash', 'empty', 'local/p', '--all', '--yes');
    await controller.cliOk('vol', 'migrate', 'local/p/d', 'local/other');
    const { isBase } = await controller.api<FleetVolume>('/hosts/local/pools/other/volumes/d');
    assert.equal(isBase, true, 'a base that is moved is one');
  });

  test('a protected volume stays, and is on record who took that off', async () => {
    await upload('precious');
    await controller.cliOk('vol', 'set', 'local/p/precious', '--protected', 'on');
    for (const [...words] of [
      ['vol', 'delete', 'local/p/precious', '--yes', '--allow-used'],
      ['vol', 'delete', 'local/p/precious', '--trash'],
      ['vol', 'wipe', 'local/p/precious', '--yes'],
      ['vol', 'upload', at('file'), 'local/p/precious', '--yes'],
      ['vol', 'migrate', 'local/p/precious', 'local/other'],
    ])
      await controller.cliRefused('volume-protected', ...words);
    await controller.cliOk('vol', 'rename', 'local/p/precious', 'gold');
    assert.equal((await show('gold')).isProtected, true, 'also under another name');
    await controller.cliOk('vol', 'set', 'local/p/gold', '--protected', 'off');
    await controller.cliOk('vol', 'delete', 'local/p/gold', '--yes');
    assert.match(
      await controller.cliOk('audit', 'list'),
      /volume.set-attributes +local\/p\/gold +done +not protected/,
    );
  });

  test('a name that is taken, or that a domain finds its image by, is not given away', async () => {
    await upload('one');
    await upload('two');
    const disk = "<disk type='volume'><source pool='p' volume='one'/><target dev='vda' bus='virtio'/></disk>";
    writeFileSync(at('guest.xml'), domainWith(disk));
    await controller.cliOk('domain', 'define', 'local', at('guest.xml'));
    for (const words of [
      ['rename', 'local/p/one', 'three'],
      ['base', 'local/p/one'],
      ['map', 'local/p/one'],
    ])
      assert.match(await controller.cliRefused('volume-used', 'vol', ...words), /domain 'guest'/);
    await controller.cliOk('domain', 'undefine', 'local/guest');
    await controller.cliRefused('volume-exists', 'vol', 'rename', 'local/p/one', 'two');
    await controller.cliRefused('invalid-argument', 'vol', 'rename', 'local/p/one', 'one');
    await controller.cliRefused('invalid-argument', 'vol', 'rename', 'local/p/one', '../x');
    await controller.cliRefused('volume-not-found', 'vol', 'rename', 'local/p/none', 'three');
  });

  test('a viewer changes none of it', async () => {
    const token = (await controller.cliOk('token', 'create', 'looks', '--role', 'viewer')).match(
      /stow_\S+/,
    )![0];
    for (const words of [
      ['vol', 'rename', 'local/p/one', 'x'],
      ['vol', 'base', 'local/p/one'],
      ['vol', 'set', 'local/p/one', '--protected', 'on'],
    ]) {
      const { status, stderr } = await controller.cliAs(token, ...words);
      assert.notEqual(status, 0);
      assert.match(stderr, /\[forbidden\]/);
    }
  });
});
