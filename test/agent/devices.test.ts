import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadBackends } from '../../agent/backends/registry.ts';
import { adapters } from '../../agent/devices/adapters.ts';
import { parseBlockDevices } from '../../agent/devices/block-devices.ts';
import { hostDevices } from '../../agent/devices/host-devices.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const run = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

const entry = (path: string, more: object) => ({ path, type: 'disk', size: 1 << 30, ro: false, ...more });

test('each device is told once, with what is on it and what it lies on; what has no medium is not', () => {
  const found = parseBlockDevices(
    JSON.stringify({
      blockdevices: [
        entry('/dev/sda', {
          pttype: 'gpt',
          model: 'WDC WD40EFRX',
          children: [
            entry('/dev/sda1', { type: 'part', fstype: 'ext4', mountpoints: ['/'] }),
            entry('/dev/sda2', {
              type: 'part',
              fstype: 'LVM2_member',
              children: [entry('/dev/mapper/vg0-web', { type: 'lvm' })],
            }),
          ],
        }),
        // Two paths of one unit.
        ...['/dev/sdb', '/dev/sdc'].map((path) =>
          entry(path, {
            tran: 'iscsi',
            fstype: 'mpath_member',
            children: [entry('/dev/mapper/mpatha', { type: 'mpath' })],
          }),
        ),
        entry('/dev/sr0', { type: 'rom' }),
        entry('/dev/sdd', { size: 0 }),
        entry('/dev/sde', { mountpoints: [null] }),
      ],
    }),
  );
  assert.deepEqual(
    found.map(({ name, holds, parent }) => [name, holds, parent]),
    [
      ['/dev/sda', 'a partition table (gpt)', undefined],
      ['/dev/sda1', 'ext4, mounted at /', '/dev/sda'],
      ['/dev/sda2', 'a physical volume of LVM', '/dev/sda'],
      ['/dev/mapper/vg0-web', undefined, '/dev/sda2'],
      ['/dev/sdb', 'a path of a multipath device', undefined],
      ['/dev/mapper/mpatha', undefined, '/dev/sdb'],
      ['/dev/sdc', 'a path of a multipath device', undefined],
      ['/dev/sde', undefined, undefined],
    ],
  );
});

test('real devices are told by their own bytes, also where there is no udev', {
  skip: !isRoot && 'loop devices need root',
}, async () => {
  await using room = scratch();
  const disks = ['gpt', 'ext4', 'empty', 'strange'].map((name) => {
    const file = join(room.path, name);
    writeFileSync(file, '');
    truncateSync(file, 256 << 20);
    return { name, path: run('losetup', '--find', '--show', '--partscan', file).trim() };
  });
  const pathOf = (name: string): string => disks.find((disk) => disk.name === name)!.path;
  try {
    run('parted', '--script', pathOf('gpt'), 'mklabel', 'gpt', 'mkpart', 'one', '1MiB', '10MiB');
    run('mkfs.ext4', '-q', pathOf('ext4'));
    // Two signatures: what it is nobody can tell.
    run('mkfs.btrfs', '-q', pathOf('strange'));
    run(
      'dd',
      `if=${pathOf('ext4')}`,
      `of=${pathOf('strange')}`,
      'bs=1024',
      'skip=1',
      'seek=1',
      'count=1',
      'conv=notrunc',
    );
    const pool = poolDefinitionSchema.parse({
      name: 'parts',
      uuid: '00000000-0000-4000-8000-000000000000',
      type: 'disk',
      source: { devices: [{ path: pathOf('gpt') }], hosts: [], format: 'gpt' },
      target: { path: '/dev' },
    });
    const { devices } = await hostDevices(await loadBackends(undefined), [pool], undefined);
    const found = new Map(devices.map((device) => [device.name, device]));
    assert.deepEqual(found.get(pathOf('gpt'))?.poolTypes, ['disk']);
    assert.match(found.get(pathOf('gpt'))!.holds!, /partition table \(gpt\)/);
    assert.deepEqual(
      [found.get(pathOf('ext4'))?.holds, found.get(pathOf('ext4'))?.poolTypes],
      ['ext4', ['fs']],
    );
    assert.equal(found.get(pathOf('empty'))?.holds, undefined);
    assert.ok(found.get(pathOf('empty'))!.poolTypes.includes('fs'));
    assert.match(found.get(pathOf('strange'))!.holds!, /cannot be told/);
    assert.deepEqual(found.get(pathOf('strange'))?.poolTypes, []);

    assert.equal(devices.find(({ name }) => name === pathOf('gpt'))?.pool, 'parts');
    assert.equal(devices.find(({ name }) => name === pathOf('ext4'))?.pool, undefined);
  } finally {
    for (const { path } of disks) run('losetup', '--detach', path);
  }
});

test('adapters are told with their drivers, those of Fibre Channel with their ports', async () => {
  await using room = scratch();
  const put = (path: string, text: string): void => {
    mkdirSync(join(room.path, path, '..'), { recursive: true });
    writeFileSync(join(room.path, path), `${text}\n`);
  };
  put('class/scsi_host/host10/proc_name', 'lpfc');
  put('class/scsi_host/host2/proc_name', 'ahci');
  put('class/fc_host/host10/port_name', '0x10000090fa8b1c2e');
  put('class/fc_host/host10/port_state', 'Online');
  assert.deepEqual(
    (await adapters(room.path)).map(({ kind, name, model, wwn, holds }) => [kind, name, model, wwn, holds]),
    [
      ['scsi-adapter', 'scsi_host2', 'ahci', undefined, undefined],
      ['fc-adapter', 'scsi_host10', 'lpfc', '10000090fa8b1c2e', 'Online'],
    ],
  );
  assert.deepEqual(await adapters(join(room.path, 'none')), []);
});

test('what one backend cannot tell is named, and hides nothing else', async () => {
  const { devices, problems } = await hostDevices(await loadBackends(undefined), [], '127.0.0.1');
  assert.deepEqual(devices, []);
  assert.ok(
    problems.some((problem) => problem.includes('iscsi-direct')),
    problems.join('\n'),
  );
});
