import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { zfsBackend } from '../../agent/backends/zfs/index.ts';
import { Zvols } from '../../agent/backends/zfs/zvols.ts';
import { runBackendSuite } from '../conformance/suite.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';

const zfs = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

let grounds = 0;

async function write(name: string, bytes: Buffer): Promise<void> {
  const path = `/dev/zvol/tank/ground-${grounds}/${name}`;
  for (let tries = 0; ; tries++) {
    try {
      const fd = openSync(path, 'r+');
      writeSync(fd, bytes);
      fsyncSync(fd);
      closeSync(fd);
      return;
    } catch (error) {
      if (tries > 100) throw error;
      // udev makes the node a moment later.
      await setTimeout(50);
    }
  }
}

if (!inTestHost)
  testInTestHost(import.meta.url, 'zvols of OpenZFS in a machine', { disksMiB: [512], zfs: true });
else {
  runBackendSuite({
    name: 'zfs with OpenZFS',
    backend: zfsBackend,
    skip: [
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a zpool stays imported: others may use it',
      },
    ],
    overwrite: write,
    ground() {
      if (grounds === 0) zfs('zpool', 'create', 'tank', '/dev/vdb');
      const name = `tank/ground-${++grounds}`;
      zfs('zfs', 'create', '-o', 'mountpoint=none', name);
      const at = (volume: string): string => `${name}/${volume}`;
      return {
        definition: { source: { name }, target: { path: `/dev/zvol/${name}` } },
        outside: {
          async make(volume, bytes) {
            zfs('zfs', 'create', '-s', '-V', '4M', at(volume));
            await write(volume, bytes);
          },
          change: (volume) => write(volume, Buffer.alloc(4096, 1)),
          rename: (from, to) => void zfs('zfs', 'rename', at(from), at(to)),
          remove: (volume) => void zfs('zfs', 'destroy', at(volume)),
        },
        away: () => void zfs('zfs', 'rename', name, `${name}.away`),
        back: () => void zfs('zfs', 'rename', `${name}.away`, name),
        async [Symbol.asyncDispose]() {
          zfs('zfs', 'destroy', '-r', name);
        },
      };
    },
  });

  test('a dataset that holds files, or may hold them unseen, is not destroyed', async () => {
    zfs('zfs', 'create', '-o', 'mountpoint=/mnt/files', 'tank/files');
    const zvols = new Zvols('tank/files', []);
    writeFileSync('/mnt/files/small', 'a few bytes');
    await assert.rejects(zvols.destroy(), {
      code: 'pool-not-empty',
      message: /holds files, such as 'small'/,
    });
    zfs('zfs', 'unmount', 'tank/files');
    await assert.rejects(zvols.destroy(), { code: 'pool-not-empty', message: /is not mounted/ });
    zfs('zfs', 'mount', 'tank/files');
    rmSync('/mnt/files/small');
    await zvols.destroy();
    assert.throws(() => zfs('zfs', 'list', 'tank/files'), /does not exist/);
  });
}
