import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { blockDeviceOf } from '../../../shared/conf/blockdev.ts';
import { poolSourceSchema } from '../../../shared/conf/pool-source.ts';
import type { Volume } from '../../../shared/conf/volume.ts';
import { scratch } from '../../support/scratch.ts';

const volume = (more: Partial<Volume>): Volume => ({
  id: randomUUID(),
  name: 'v',
  type: 'file',
  format: 'raw',
  path: '/srv/v',
  capacityBytes: 1 << 20,
  allocationBytes: 0,
  snapshotCount: 0,
  etag: '',
  ...more,
});
const auth = { username: 'admin', secret: { usage: 'ceph' } };

const DIRECTORY = { type: 'dir', source: poolSourceSchema.parse({}) };

/** What it is, the type and source of its pool, the volume, and how QEMU opens its storage. */
const STORAGES: [string, string, object, Partial<Volume>, object][] = [
  ['a file', 'dir', {}, {}, { driver: 'file', filename: '/srv/v' }],
  [
    'a device',
    'logical',
    {},
    { type: 'block', path: '/dev/vg0/v' },
    { driver: 'host_device', filename: '/dev/vg0/v' },
  ],
  [
    'an image of Ceph',
    'rbd',
    { name: 'rbd/tenant', hosts: [{ name: 'mon', port: 6789 }], auth },
    { type: 'network', path: 'rbd/tenant/v' },
    {
      driver: 'rbd',
      pool: 'rbd',
      namespace: 'tenant',
      image: 'v',
      user: 'admin',
      server: [{ host: 'mon', port: '6789' }],
    },
  ],
  [
    'one of the cluster that the host is configured for',
    'rbd',
    { name: 'rbd' },
    { type: 'network', path: 'rbd/v' },
    { driver: 'rbd', pool: 'rbd', image: 'v' },
  ],
  [
    'a file of gluster',
    'gluster',
    { name: 'gv0', dir: '/images', hosts: [{ name: 'nas' }] },
    { type: 'network', path: 'gluster://nas/gv0/images/v' },
    {
      driver: 'gluster',
      volume: 'gv0',
      path: 'images/v',
      server: [{ type: 'inet', host: 'nas', port: '24007' }],
    },
  ],
  [
    'a unit of a target',
    'iscsi-direct',
    { hosts: [{ name: '10.0.0.1' }], devices: [{ path: 'iqn.2020-01.org.example:t' }], auth },
    { type: 'network', path: 'ip-10.0.0.1:3260-iscsi-iqn.2020-01.org.example:t-lun-2' },
    {
      driver: 'iscsi',
      transport: 'tcp',
      portal: '10.0.0.1:3260',
      target: 'iqn.2020-01.org.example:t',
      lun: 2,
      user: 'admin',
    },
  ],
];

describe('how QEMU opens a volume', () => {
  for (const [what, type, source, more, wanted] of STORAGES)
    test(what, () => {
      const node = blockDeviceOf({ type, source: poolSourceSchema.parse(source) }, volume(more), {
        nodeName: 'disk0',
      });
      assert.deepEqual(node, { driver: 'raw', 'node-name': 'disk0', file: wanted });
    });

  test('QEMU takes it, also of a base, and what is encrypted says so', async () => {
    await using room = scratch();
    const path = join(room.path, 'v, with=odd:name');
    for (const format of ['raw', 'qcow2'] as const) {
      execFileSync('qemu-img', ['create', '-q', '-f', format, path, '1M']);
      const node = blockDeviceOf(DIRECTORY, volume({ path, format, isBase: true }));
      assert.equal(node['read-only'], true);
      const info = execFileSync('qemu-img', ['info', '--output=json', `json:${JSON.stringify(node)}`], {
        encoding: 'utf8',
      });
      const { format: found, 'virtual-size': size } = JSON.parse(info) as Record<string, unknown>;
      assert.deepEqual([found, size], [format, 1 << 20]);
    }
    const encrypted = volume({ format: 'qcow2', encryption: { format: 'luks' } });
    assert.deepEqual(blockDeviceOf(DIRECTORY, encrypted).encrypt, { format: 'luks' });
  });

  test('an overlay names what it stands on, or leaves it to a header that tells the format', () => {
    const base = blockDeviceOf(DIRECTORY, volume({ path: '/srv/base', format: 'vmdk', isBase: true }));
    const over = (backing: Volume['backingStore']) => volume({ format: 'qcow2', backingStore: backing });
    assert.deepEqual(blockDeviceOf(DIRECTORY, over({ path: 'base' }), { backing: base }).backing, base);
    assert.ok(!('backing' in blockDeviceOf(DIRECTORY, over({ path: 'base', format: 'raw' }))));
    assert.throws(() => blockDeviceOf(DIRECTORY, over({ path: 'base' })), {
      code: 'not-supported',
      message: /does not say of which format/,
    });
  });

  test('what cannot be opened is refused', () => {
    for (const [code, more] of [
      ['volume-damaged', { damaged: 'its header is torn' }],
      ['volume-damaged', { format: 'unknown' }],
      ['not-supported', { type: 'ploop', format: 'ploop', snapshotCount: 1 }],
    ] as const)
      assert.throws(() => blockDeviceOf(DIRECTORY, volume(more)), { code });
    const pool = { type: 'test', source: DIRECTORY.source };
    assert.throws(() => blockDeviceOf(pool, volume({ type: 'network', path: 'test:v' })), {
      code: 'not-supported',
    });
  });
});
