import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { definitionsOf } from '../../agent/proxmox/pool-definitions.ts';
import { parseStorages } from '../../agent/proxmox/storage-config.ts';

const NO_LOCAL = 'dir: local\n\tdisable\n';
const of = (text: string) => definitionsOf(parseStorages(`${NO_LOCAL}\n${text}`), 'here', '/');

/** What it is, its section, and the pool: type, source and target. */
const POOLS: [string, string, string, object, string | undefined][] = [
  ['a directory', 'dir: d\n\tpath /srv/d\n', 'proxmox', { format: 'dir' }, '/srv/d'],
  ['an export', 'nfs: n\n\tserver nas\n\texport /e\n', 'proxmox', { format: 'nfs' }, '/mnt/pve/n'],
  ['a volume group', 'lvm: l\n\tvgname vg0\n\tshared 1\n', 'logical', { name: 'vg0' }, undefined],
  ['a thin pool', 'lvmthin: t\n\tthinpool data\n\tvgname pve\n', 'logical', { name: 'pve/data' }, undefined],
  ['a dataset', 'zfspool: z\n\tpool rpool/data\n\tsparse\n', 'zfs', { name: 'rpool/data' }, undefined],
  [
    'a pool of Ceph',
    'rbd: r\n\tmonhost 10.0.0.1:6789, [fd00::1]; mon\n\tpool vms\n\tnamespace n\n\tusername u\n',
    'rbd',
    {
      name: 'vms/n',
      hosts: [{ name: '10.0.0.1', port: 6789 }, { name: 'fd00::1' }, { name: 'mon' }],
      auth: { type: 'ceph', username: 'u', secret: { usage: '/etc/pve/priv/ceph/r.keyring' } },
    },
    undefined,
  ],
  [
    'a target',
    'iscsi: i\n\tportal 10.0.0.2\n\ttarget iqn.2020-01.org.example:t\n',
    'iscsi',
    { hosts: [{ name: '10.0.0.2' }], devices: [{ path: 'iqn.2020-01.org.example:t' }] },
    '/dev/disk/by-path',
  ],
];

describe('the storages of Proxmox VE', () => {
  test('what is removed of a volume group is overwritten where Proxmox VE does so, at its rate', () => {
    const wiped = (more: string): unknown => of(`lvm: l\n\tvgname vg0\n${more}`).definitions[0]?.wipesDeleted;
    assert.equal(wiped(''), undefined);
    assert.equal(wiped('\tsaferemove 0\n'), undefined);
    assert.deepEqual(wiped('\tsaferemove 1\n'), { limitBytesPerSecond: 10 << 20 });
    assert.deepEqual(wiped('\tsaferemove 1\n\tsaferemove_throughput -52428800\n'), {
      limitBytesPerSecond: 50 << 20,
    });
  });

  test('a storage is for what its configuration says, else for what its type is for', () => {
    const contents = (text: string): unknown => of(text).definitions[0]?.contents;
    assert.deepEqual(contents('dir: d\n\tpath /d\n\tcontent iso,vztmpl\n'), ['iso', 'vztmpl']);
    assert.deepEqual(contents('dir: d\n\tpath /d\n\tcontent none\n'), []);
    assert.deepEqual(contents('dir: d\n\tpath /d\n'), ['images', 'rootdir']);
    assert.deepEqual(contents('lvm: l\n\tvgname vg0\n'), ['images']);
    assert.deepEqual(contents('cephfs: c\n'), ['backup']);
  });

  for (const [what, text, type, source, path] of POOLS)
    test(`${what} is a pool`, () => {
      const { definitions, others } = of(text);
      assert.deepEqual(others, []);
      const [pool] = definitions;
      assert.equal(pool?.type, type);
      assert.equal(pool?.managedBy, 'proxmox');
      assert.deepEqual({ ...pool?.source }, { hosts: [], devices: [], ...source });
      assert.equal(pool?.target.path, path);
      // As it is on record, so that nothing is taken for a change.
      assert.deepEqual(JSON.parse(JSON.stringify(pool?.source)), { ...pool?.source });
    });

  test('those of other nodes, switched off, of our plug-in or incomplete are none', () => {
    const { definitions, others } = of(
      'dir: a\n\tpath /a\n\tnodes there,elsewhere\n\ndir: b\n\tpath /b\n\tdisable 1\n\nstowage: c\n\tstowage-pool data\n\nlvm: d\n\tshared 1\n\npbs: e\n\tserver x\n\nmy-type: f\n\tpath /etc\n',
    );
    assert.deepEqual(
      definitions.map(({ name }) => name).filter((name) => name !== 'd'),
      [],
    );
    assert.deepEqual(others.map(({ storage }) => storage).sort(), ['e', 'f']);
  });

  test('a file with anything in it is read as Proxmox VE reads it', () => {
    const storages = parseStorages(
      '# a comment\ndir: one\n\tpath /one\n\tshared\nmy-type: odd\n\tpath /odd\nnot a line\n\tpath /lost\n\ndir: one\n\tpath /again\n\ndir: local\n\tpath /elsewhere\n',
    );
    assert.deepEqual(storages.get('one'), { type: 'dir', path: '/one', shared: '1' });
    assert.deepEqual(storages.get('odd'), { type: 'my-type', path: '/odd' });
    assert.deepEqual(storages.get('local'), {
      ...{ type: 'dir', path: '/var/lib/vz' },
      content: 'backup,images,iso,rootdir,snippets,vztmpl',
    });
    assert.equal(storages.size, 3);
  });
});
