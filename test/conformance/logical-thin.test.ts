import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import type { BlockPool } from '../../agent/volumes/blocks/block-pool.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';
import { FreezingHost } from '../support/freezing.ts';
import { scratch } from '../support/scratch.ts';
import { holdOpen } from './hands.ts';
import { testOtherHost } from './other-host.ts';
import { encryptedElsewhere, runBackendSuite } from './suite.ts';

const DISKS = ['/dev/vdb', '/dev/vdc'];
const source = { name: 'vg0/thin' };
const definition = poolDefinitionSchema.parse({
  ...{ name: 'p', uuid: '00000000-0000-0000-0000-000000000000', type: 'logical', source },
});

const lvm = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

let made = false;
function makePool(): void {
  if (made) return;
  lvm('vgcreate', '--yes', 'vg0', ...DISKS);
  lvm('lvcreate', '--yes', '--type', 'thin-pool', '--size', '400M', '--name', 'thin', 'vg0');
  lvm('lvchange', '--errorwhenfull', 'y', 'vg0/thin');
  made = true;
}

function write(name: string, bytes: Buffer): void {
  const fd = openSync(`/dev/vg0/${name}`, 'r+');
  writeSync(fd, bytes);
  fsyncSync(fd);
  closeSync(fd);
}

function makeVolume(name: string, bytes: Buffer): void {
  lvm('lvcreate', '--yes', '--virtualsize', '8M', '--name', name, '--thinpool', 'thin', 'vg0');
  write(name, bytes);
}

/** As Proxmox VE takes one. */
function snapshot(volume: string, id: string): void {
  lvm(
    'lvcreate',
    '--yes',
    '--snapshot',
    '--permission',
    'r',
    '--name',
    `snap_${volume}_${id}`,
    `vg0/${volume}`,
  );
}

function namesInPool(): string[] {
  const options = ['--noheadings', '--options', 'lv_name', '--select', 'pool_lv=thin', 'vg0'];
  return execFileSync('lvs', options, { encoding: 'utf8' }).split(/\s+/).filter(Boolean);
}

if (!inTestHost) testInTestHost(import.meta.url, 'thin volumes in a test host', { disksMiB: [256, 256] });
else {
  runBackendSuite({
    name: 'logical with a thin pool',
    backend: logicalBackend,
    slow: true,
    skip: [encryptedElsewhere('devices')],
    overwrite: write,
    traits: logicalBackend.traitsOf?.(definition),
    ground() {
      makePool();
      return {
        definition: { source, target: { path: '/dev/vg0' } },
        outside: {
          make: makeVolume,
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => lvm('lvrename', 'vg0', from, to),
          remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
        },
        hold: (volume) => holdOpen(`/dev/vg0/${volume}`),
        away: () => lvm('vgrename', 'vg0', 'elsewhere'),
        back: () => lvm('vgrename', 'elsewhere', 'vg0'),
        // The pool stays for the next test, empty: making one takes seconds here.
        async [Symbol.asyncDispose]() {
          const names = namesInPool();
          if (names.length > 0) lvm('lvremove', '--force', '--yes', ...names.map((name) => `vg0/${name}`));
        },
      };
    },
  });
  testOtherHost({
    name: 'one thin pool',
    open(services) {
      makePool();
      return logicalBackend.open(definition, services) as BlockPool;
    },
    thin: true,
    make: makeVolume,
    remove: (name) => lvm('lvremove', '--yes', `vg0/${name}`),
    snapshot,
    read: (name, bytes) => readFileSync(`/dev/vg0/${name}`).subarray(0, bytes),
    names: namesInPool,
  });

  test('snapshots that Proxmox VE has taken stay with their volume when it gets another name, and go with it', async () => {
    makePool();
    await using room = scratch();
    const { pool } = await FreezingHost.start(
      room.path,
      'one',
      (services) => logicalBackend.open(definition, services) as BlockPool,
    );
    const idsOf = async (name: string): Promise<string[]> =>
      (await pool.listSnapshots(name)).map(({ id }) => id);
    makeVolume('v', Buffer.alloc(4096, 1));
    snapshot('v', 's');
    await pool.refresh();
    await pool.rename('v', 'w');
    assert.deepEqual(await idsOf('w'), ['s']);
    snapshot('w', 't');
    await pool.refresh();
    await pool.trash('w', '0123456789ab', (await pool.look('w')).etag);
    await pool.restore('0123456789ab', 'w', { id: randomUUID(), format: 'raw' });
    assert.deepEqual((await idsOf('w')).sort(), ['s', 't']);
    await pool.remove('w', { deleteSnapshots: true });
    assert.deepEqual(namesInPool(), []);
    await pool.stop();
  });
}
