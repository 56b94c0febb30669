import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import type { BlockPool } from '../../agent/volumes/blocks/block-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { newVolumeSchema } from '../../shared/conf/volume.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { scratch } from '../support/scratch.ts';
import { holdOpen } from './hands.ts';
import { testOtherHost } from './other-host.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

const DISKS = ['/dev/vdb', '/dev/vdc'];

const lvm = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

let made = false;
function makeGroup(): void {
  if (!made) lvm('vgcreate', '--yes', 'vg0', ...DISKS);
  made = true;
}

function write(name: string, bytes: Buffer): void {
  const fd = openSync(`/dev/vg0/${name}`, 'r+');
  writeSync(fd, bytes);
  fsyncSync(fd);
  closeSync(fd);
}

function makeVolume(name: string, bytes: Buffer): void {
  lvm('lvcreate', '--yes', '--size', '8M', '--name', name, 'vg0');
  write(name, bytes);
}

const isActive = (name: string): boolean => existsSync(`/dev/vg0/${name}`);

if (!inTestHost) testInTestHost(import.meta.url, 'logical volumes in a test host', { disksMiB: [256, 256] });
else {
  runBackendSuite({
    name: 'logical with LVM',
    backend: logicalBackend,
    slow: true,
    skip: [encryptedElsewhere('devices')],
    ground() {
      makeGroup();
      return {
        definition: { source: { name: 'vg0' }, target: { path: '/dev/vg0' } },
        outside: {
          make: makeVolume,
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => lvm('lvrename', 'vg0', from, to),
          remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
        },
        hold: (volume) => holdOpen(`/dev/vg0/${volume}`),
        away: () => lvm('vgrename', 'vg0', 'elsewhere'),
        back: () => lvm('vgrename', 'elsewhere', 'vg0'),
        // The group stays for the next test, empty: making one takes seconds here.
        async [Symbol.asyncDispose]() {
          lvm('lvremove', '--force', '--yes', 'vg0');
        },
      };
    },
  });

  test('in a group that is not ours nothing is activated but for the time of some work', async () => {
    await using room = scratch();
    makeGroup();
    for (const name of ['vm-100-disk-0', 'vm-100-disk-1'])
      lvm('lvcreate', '--yes', '--size', '4M', '--name', name, 'vg0');
    const bytes = randomBytes(1 << 20);
    write('vm-100-disk-0', bytes);
    lvm('lvchange', '--activate', 'n', 'vg0/vm-100-disk-0');
    const definition = poolDefinitionSchema.parse({
      ...{ name: 'p', uuid: randomUUID(), type: 'logical', source: { name: 'vg0' } },
      managedBy: 'proxmox',
    });
    const pool = new OpenPool(
      logicalBackend.open(definition, {
        agentId: 'agent',
        stateDirectory: async () => room.path,
        imageDirectories: () => [],
        secret: () => '',
        ownsStorage: false,
        alone: <T>(work: () => Promise<T>) => work(),
      }),
    );
    await pool.start();
    assert.deepEqual(['vm-100-disk-0', 'vm-100-disk-1'].map(isActive), [false, true]);
    {
      await using opened = await pool.open('vm-100-disk-0', { as: 'content' });
      const read = Buffer.alloc(bytes.length);
      await opened.sources[0]!.read(read, 0);
      assert.ok(read.equals(bytes));
      // While it is read it stays.
      await pool.space();
      assert.ok(isActive('vm-100-disk-0'));
    }
    await pool.space();
    assert.ok(!isActive('vm-100-disk-0'));
    await pool.stop();
    assert.ok(isActive('vm-100-disk-1'), 'what whoever owns the group has activated stays so');
    lvm('lvremove', '--force', '--yes', 'vg0');
  });

  test('a volume that is written to while it is open for a moment is not taken away', async () => {
    await using room = scratch();
    makeGroup();
    const definition = poolDefinitionSchema.parse({
      ...{ name: 'p', uuid: randomUUID(), type: 'logical', source: { name: 'vg0' } },
    });
    const pool = new OpenPool(
      logicalBackend.open(definition, {
        agentId: 'agent',
        stateDirectory: async () => room.path,
        imageDirectories: () => [],
        secret: () => '',
        ownsStorage: true,
        alone: <T>(work: () => Promise<T>) => work(),
      }),
    );
    await pool.start();
    const { etag } = await pool.create(newVolumeSchema.parse({ name: 'v', capacityBytes: 4 << 20 }));
    const writer = openSync('/dev/vg0/v', 'r+');
    const removal = pool.remove('v', { etag });
    await sleep(1200);
    writeSync(writer, Buffer.alloc(4096, 1));
    fsyncSync(writer);
    closeSync(writer);
    await assert.rejects(removal, (error: { code?: string }) =>
      ['volume-changed', 'volume-in-use'].includes(String(error.code)),
    );
    assert.ok(isActive('v'));
    await pool.remove('v', { etag: (await pool.look('v')).etag });
    await pool.stop();
  });

  const namesInGroup = (): string[] =>
    execFileSync('lvs', ['--noheadings', '--options', 'lv_name', 'vg0'], { encoding: 'utf8' })
      .split(/\s+/)
      .filter(Boolean);

  testOtherHost({
    name: 'one volume group',
    open(services) {
      makeGroup();
      const definition = poolDefinitionSchema.parse({
        ...{ name: 'p', uuid: randomUUID(), type: 'logical', source: { name: 'vg0' } },
      });
      return logicalBackend.open(definition, services) as BlockPool;
    },
    thin: false,
    make: makeVolume,
    remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
    read: (name, bytes) => readFileSync(`/dev/vg0/${name}`).subarray(0, bytes),
    names: namesInGroup,
  });
}
