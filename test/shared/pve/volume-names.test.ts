import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  baseName,
  diskName,
  disksNamedIn,
  formatVolumeName,
  guestOf,
  type PveNaming,
  type PveVolumeName,
  parseVmid,
  parseVolumeId,
  parseVolumeName,
} from '../../../shared/pve/volume-names.ts';

const image = (name: string, vmid: number, more: Partial<PveVolumeName> = {}): PveVolumeName => ({
  content: 'images',
  name,
  vmid,
  isBase: false,
  format: 'raw',
  ...more,
});
const other = (content: PveVolumeName['content'], name: string, more: Partial<PveVolumeName> = {}) => ({
  content,
  name,
  isBase: false,
  format: 'raw',
  ...more,
});

/** What it is, on which storage, its name, and what is in it. */
const NAMES: [string, PveNaming, string, PveVolumeName][] = [
  [
    'a disk of a guest',
    'dir',
    '100/vm-100-disk-0.qcow2',
    image('vm-100-disk-0.qcow2', 100, { format: 'qcow2' }),
  ],
  ['a raw disk', 'dir', '100/vm-100-disk-1.raw', image('vm-100-disk-1.raw', 100)],
  ['a disk of VMware', 'dir', '100/vm-100-disk-2.vmdk', image('vm-100-disk-2.vmdk', 100, { format: 'vmdk' })],
  [
    'a cloud-init drive',
    'dir',
    '100/vm-100-cloudinit.qcow2',
    image('vm-100-cloudinit.qcow2', 100, { format: 'qcow2' }),
  ],
  ['a saved state', 'dir', '100/vm-100-state-before.raw', image('vm-100-state-before.raw', 100)],
  ['a disk with a name of its own', 'dir', '100/data.qcow2', image('data.qcow2', 100, { format: 'qcow2' })],
  ['a base', 'dir', '9000/base-9000-disk-0.raw', image('base-9000-disk-0.raw', 9000, { isBase: true })],
  [
    'the volume of a container',
    'dir',
    '101/subvol-101-disk-0.subvol',
    image('subvol-101-disk-0.subvol', 101, { format: 'subvol' }),
  ],
  [
    'a linked clone',
    'dir',
    '100/base-100-disk-0.raw/101/vm-101-disk-0.qcow2',
    image('vm-101-disk-0.qcow2', 101, { format: 'qcow2', base: { name: 'base-100-disk-0.raw', vmid: 100 } }),
  ],
  [
    'a linked clone that is a base itself',
    'dir',
    '100/base-100-disk-0.qcow2/101/base-101-disk-0.qcow2',
    image('base-101-disk-0.qcow2', 101, {
      format: 'qcow2',
      isBase: true,
      base: { name: 'base-100-disk-0.qcow2', vmid: 100 },
    }),
  ],
  ['an image of a CD', 'dir', 'iso/debian-13.iso', other('iso', 'debian-13.iso')],
  ['one that ends with IMG', 'dir', 'iso/virtio.IMG', other('iso', 'virtio.IMG')],
  [
    'a template of a container',
    'dir',
    'vztmpl/debian-13-standard_13.1-1_amd64.tar.zst',
    other('vztmpl', 'debian-13-standard_13.1-1_amd64.tar.zst'),
  ],
  ['a template that is not compressed', 'dir', 'vztmpl/small.tar', other('vztmpl', 'small.tar')],
  [
    'the directory of a container',
    'dir',
    'rootdir/102',
    other('rootdir', '102', { vmid: 102, format: 'subvol' }),
  ],
  [
    'a backup of a guest',
    'dir',
    'backup/vzdump-qemu-100-2026_11_20-01_00_02.vma.zst',
    other('backup', 'vzdump-qemu-100-2026_11_20-01_00_02.vma.zst', { vmid: 100 }),
  ],
  ['a backup of nobody known', 'dir', 'backup/old.tgz', other('backup', 'old.tgz')],
  ['a snippet', 'dir', 'snippets/user.yaml', other('snippets', 'user.yaml')],
  [
    'an image to import',
    'dir',
    'import/web server.qcow2',
    other('import', 'web server.qcow2', { format: 'qcow2' }),
  ],
  [
    'an appliance to import',
    'dir',
    'import/appliance.ova',
    other('import', 'appliance.ova', { format: 'ova' }),
  ],
  [
    'a disk inside an appliance',
    'dir',
    'import/appliance.ova/disk-1.vmdk',
    other('import', 'appliance.ova/disk-1.vmdk', { format: 'ova+vmdk' }),
  ],
  ['a disk on LVM', 'lvm', 'vm-100-disk-0', image('vm-100-disk-0', 100)],
  ['a qcow2 on LVM', 'lvm', 'vm-100-disk-0.qcow2', image('vm-100-disk-0.qcow2', 100, { format: 'qcow2' })],
  ['a thin disk', 'lvmthin', 'vm-100-disk-0', image('vm-100-disk-0', 100)],
  ['a thin base', 'lvmthin', 'base-100-disk-0', image('base-100-disk-0', 100, { isBase: true })],
  ['a zvol', 'zfspool', 'vm-100-disk-0', image('vm-100-disk-0', 100)],
  [
    'a clone of a zvol',
    'zfspool',
    'base-100-disk-0/vm-101-disk-0',
    image('vm-101-disk-0', 101, { base: { name: 'base-100-disk-0', vmid: 100 } }),
  ],
  [
    'a file system of ZFS',
    'zfspool',
    'subvol-101-disk-0',
    image('subvol-101-disk-0', 101, { format: 'subvol' }),
  ],
  [
    'a clone of one',
    'zfspool',
    'basevol-100-disk-0/subvol-101-disk-0',
    image('subvol-101-disk-0', 101, { format: 'subvol', base: { name: 'basevol-100-disk-0', vmid: 100 } }),
  ],
  ['an image of Ceph', 'rbd', 'vm-100-disk-0', image('vm-100-disk-0', 100)],
  [
    'a clone on Ceph',
    'rbd',
    'base-100-disk-0/vm-101-disk-0',
    image('vm-101-disk-0', 101, { base: { name: 'base-100-disk-0', vmid: 100 } }),
  ],
  [
    'a unit of a target',
    'iscsi',
    '0.0.1.scsi-36001405',
    { content: 'images', name: '0.0.1.scsi-36001405', isBase: false, format: 'raw' },
  ],
];

/** What is refused, on which storage, and its name. */
const REFUSED: [string, PveNaming, string][] = [
  ['nothing', 'dir', ''],
  ['a path', 'dir', '/etc/shadow'],
  ['a way out', 'dir', '100/../../etc/shadow.raw'],
  ['a way out of the snippets', 'dir', 'snippets/..'],
  ['a snippet below another', 'dir', 'snippets/a/b'],
  ['a snapshot', 'dir', '100/snap-before-vm-100-disk-0.qcow2'],
  ['a format that there is not', 'dir', '100/vm-100-disk-0.vdi'],
  ['a disk without a format', 'dir', '100/vm-100-disk-0'],
  ['a disk without a guest', 'dir', 'vm-100-disk-0.raw'],
  ['a space', 'dir', '100/vm-100-disk 0.raw'],
  ['no image of a CD', 'dir', 'iso/readme.txt'],
  ['a CD in a directory', 'dir', 'iso/a/b.iso'],
  ['a kind that there is not', 'dir', 'films/a.iso'],
  ['a base on LVM', 'lvm', 'base-100-disk-0'],
  ['a name of nobody', 'lvmthin', 'root'],
  ['an option', 'lvm', '-vm-100-disk-0'],
  ['a slash', 'lvm', 'vm-100-disk-0/a'],
  ['a base of a directory', 'rbd', '100/base-100-disk-0/vm-101-disk-0'],
  ['a thin clone that tells its base', 'lvmthin', 'base-100-disk-0/vm-101-disk-0'],
];

describe('names of volumes in Proxmox VE', () => {
  for (const [what, naming, text, parsed] of NAMES)
    test(`${what}: ${naming}, ${text}`, () => {
      const found = parseVolumeName(naming, text);
      assert.deepEqual(JSON.parse(JSON.stringify(found)), JSON.parse(JSON.stringify(parsed)));
      assert.equal(formatVolumeName(naming, found), text);
    });
  for (const [what, naming, text] of REFUSED)
    test(`refused is ${what}: ${naming}, ${text}`, () => {
      assert.throws(() => parseVolumeName(naming, text), { code: 'invalid-name' });
    });

  test('volume ids', () => {
    assert.deepEqual(parseVolumeId('local-lvm:vm-100-disk-0'), {
      storage: 'local-lvm',
      volname: 'vm-100-disk-0',
    });
    assert.deepEqual(parseVolumeId('local:iso/a:b.iso'), { storage: 'local', volname: 'iso/a:b.iso' });
    for (const text of ['', 'local', 'local:', ':x', '-a:x', 'a:x', 'local/x', '1st:x'])
      assert.throws(() => parseVolumeId(text), { code: 'invalid-name' }, text);
  });

  test('numbers of guests', () => {
    assert.equal(parseVmid('100'), 100);
    assert.equal(parseVmid('999999999'), 999_999_999);
    for (const text of ['', '99', '1e3', '0100', '1000000000', '-100', '100 '])
      assert.throws(() => parseVmid(text), { code: 'invalid-argument' }, text);
  });

  test('whose an image is, and which of his disks a text names', () => {
    assert.equal(guestOf('vm-100-disk-0.qcow2'), 100);
    assert.equal(guestOf('base-100-disk-0'), 100);
    for (const name of ['web', 'vm-100', 'vm-1-disk-0', 'xvm-100-disk-0', 'vm-100-a b'])
      assert.equal(guestOf(name), undefined, name);
    assert.deepEqual(
      disksNamedIn(
        'vm-100-disk-0 local:base-100-disk-7/vm-1100-disk-3 /x/vm-100-disk-12.qcow2, vm-100-state-1',
        100,
      ),
      [0, 7, 12],
    );
  });

  test('names of new images', () => {
    const disk = { vmid: 100, number: 3 };
    assert.equal(diskName('dir', { ...disk, format: 'qcow2' }), 'vm-100-disk-3.qcow2');
    assert.equal(diskName('lvmthin', { ...disk, format: 'raw' }), 'vm-100-disk-3');
    assert.equal(diskName('lvm', { ...disk, format: 'qcow2' }), 'vm-100-disk-3.qcow2');
    assert.equal(diskName('zfspool', { ...disk, format: 'subvol' }), 'subvol-100-disk-3');
    assert.equal(baseName('vm-100-disk-3.qcow2'), 'base-100-disk-3.qcow2');
    assert.equal(baseName('subvol-100-disk-3'), 'basevol-100-disk-3');
    for (const name of ['base-100-disk-3', 'web', 'vm-x'])
      assert.throws(() => baseName(name), { code: 'invalid-name' });
  });
});
