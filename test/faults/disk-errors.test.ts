import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { appendFileSync, mkdirSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import type { Backend } from '../../agent/backends/backend.ts';
import { fsBackend } from '../../agent/backends/fs/index.ts';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { Sink } from '../../agent/transfer/sink.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { newVolumeSchema } from '../../shared/conf/volume.ts';
import { inTestHost, testInTestHost } from '../hosts/guest.ts';

const MIB = 1 << 20;
const SECTORS = (sizeMiB: number): number => sizeMiB * 2048;

const run = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

/** A disk of the device-mapper, whose table is one of ours: `table` swaps it while it is in use, as a disk that breaks. */
function breakable(name: string, disk: string, sizeMiB: number) {
  const whole = `0 ${SECTORS(sizeMiB)}`;
  const tables = {
    sound: `${whole} linear ${disk} 0`,
    dead: `${whole} error`,
    /** Every write fails, reads work. */
    readOnly: `${whole} flakey ${disk} 0 0 3600 1 error_writes`,
  };
  run('dmsetup', 'create', name, '--table', tables.sound);
  return {
    path: `/dev/mapper/${name}`,
    table(kind: keyof typeof tables) {
      run('dmsetup', 'suspend', '--nolockfs', '--noflush', name);
      run('dmsetup', 'load', name, '--table', tables[kind]);
      run('dmsetup', 'resume', name);
    },
  };
}

function openPool(name: string, backend: Backend, definition: Record<string, unknown>): OpenPool {
  const complete = poolDefinitionSchema.parse({
    name,
    uuid: randomUUID(),
    type: backend.type,
    ...definition,
  });
  const state = `/tmp/state-${name}`;
  mkdirSync(state);
  const services = {
    agentId: 'a',
    stateDirectory: async () => state,
    imageDirectories: () => [],
    secret: () => '',
    ownsStorage: true,
    alone: <T>(work: () => Promise<T>) => work(),
  };
  return new OpenPool(backend.open(complete, services));
}

const spec = (volume: string, sizeBytes: number, replace = false) => ({
  ...{ id: randomUUID(), pool: 'p', volume, format: 'raw' as const, replace, allowUsed: false },
  ...{ representation: 'content' as const, digest: 'gmac' as const },
  parts: [{ name: '', sizeBytes, dense: false }],
});

async function upload(pool: OpenPool, volume: string, bytes: Buffer, replace = false): Promise<string> {
  const wanted = spec(volume, bytes.length, replace);
  const sink = await Sink.open(await pool.stage(wanted));
  try {
    const { map } = sink.digests;
    for (let index = 0; index < map.count; index++) {
      const { offset, length } = map.chunk(index);
      const chunk = Buffer.from(bytes.subarray(offset, offset + length));
      const data = { bytes: chunk, ranges: [{ start: 0, end: length }] };
      await sink.write({ index, digest: await map.digestOf(chunk), verified: Promise.resolve(), data });
    }
    return (await sink.commit(undefined)).volume.id;
  } catch (error) {
    await sink.abort().catch(() => undefined);
    throw error;
  }
}

async function contentOf(pool: OpenPool, name: string): Promise<Buffer> {
  await using opened = await pool.open(name, { as: 'content' });
  const bytes = Buffer.alloc(opened.sources[0]!.sizeBytes);
  await opened.sources[0]!.read(bytes, 0);
  return bytes;
}

/** Settles with the code of an error, or with nothing. */
const codeOf = (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error) => String(error.code),
  );

if (!inTestHost)
  testInTestHost(import.meta.url, 'storage that breaks, in a test host', { disksMiB: [128, 128, 256] });
else
  describe('storage that breaks', () => {
    const ends: (() => Promise<unknown>)[] = [];
    after(async () => {
      for (const end of ends.reverse()) await end().catch(() => undefined);
    });

    test('a disk that dies is no empty pool; back, it has all that was answered for', async () => {
      const disk = breakable('dead', '/dev/vdb', 128);
      const pool = openPool('dead', fsBackend, {
        source: { devices: [{ path: disk.path }], format: 'ext4' },
        target: { path: '/mnt/dead' },
      });
      await pool.build(true);
      await pool.start();
      ends.push(
        () => pool.stop(),
        async () => run('dmsetup', 'remove', 'dead'),
      );
      const bytes = randomBytes(MIB);
      const id = await upload(pool, 'v', bytes);
      let told = 0;
      pool.on('change', ({ gone }) => {
        told += gone.length;
      });
      disk.table('dead');
      run('sh', '-c', 'echo 3 > /proc/sys/vm/drop_caches');
      for (const work of [
        () => upload(pool, 'w', bytes),
        () => upload(pool, 'v', randomBytes(MIB), true),
        () => pool.clone('v', 'twin'),
        () => pool.remove('v'),
        () => pool.create(newVolumeSchema.parse({ name: 'new', capacityBytes: MIB })),
      ])
        assert.ok(await codeOf(work()), 'it is answered for what is on no disk');
      await codeOf(pool.refresh());
      assert.equal(told, 0, 'what cannot be read is no volume that went');
      disk.table('sound');
      await pool.stop().catch(() => undefined);
      await pool.start();
      assert.equal((await pool.look('v')).id, id);
      assert.ok((await contentOf(pool, 'v')).equals(bytes));
      for (const name of ['w', 'twin', 'new'])
        await assert.rejects(pool.look(name), { code: 'volume-not-found' });
      for (const stage of await pool.stages()) await stage.drop();
      assert.deepEqual(await pool.orphans(), []);
      await upload(pool, 'w', bytes);
    });

    test('a disk under LVM that takes no writes refuses them, and loses nothing', async () => {
      // LVM shall not see the disk behind it, too.
      appendFileSync(
        '/etc/lvm/lvmlocal.conf',
        'devices { global_filter = ["a|/dev/mapper/stuck|", "a|/dev/vdd|", "r|.*|"] }\n',
      );
      const disk = breakable('stuck', '/dev/vdc', 128);
      const pool = openPool('stuck', logicalBackend, {
        source: { name: 'vgs', devices: [{ path: disk.path }] },
        target: { path: '/dev/vgs' },
      });
      await pool.build(true);
      await pool.start();
      ends.push(
        () => pool.stop(),
        async () => run('vgremove', '--force', '--yes', 'vgs'),
        async () => run('dmsetup', 'remove', 'stuck'),
      );
      const bytes = randomBytes(MIB);
      const id = await upload(pool, 'v', bytes);
      disk.table('readOnly');
      for (const work of [
        () => upload(pool, 'w', bytes),
        () => upload(pool, 'v', randomBytes(MIB), true),
        () => pool.clone('v', 'twin'),
        () => pool.resize('v', 8 * MIB, false),
        () => pool.remove('v'),
      ])
        assert.ok(await codeOf(work()), 'it is answered for what is on no disk');
      await pool.refresh();
      assert.ok((await contentOf(pool, 'v')).subarray(0, MIB).equals(bytes), 'it can be read all the time');
      disk.table('sound');
      await pool.stop();
      await pool.start();
      const now = await pool.look('v');
      assert.equal(now.id, id);
      assert.ok((await contentOf(pool, 'v')).subarray(0, MIB).equals(bytes));
      for (const stage of await pool.stages()) await stage.drop();
      await pool.stop();
      await pool.start();
      assert.deepEqual(await pool.orphans(), []);
      await upload(pool, 'w', bytes);
      await pool.remove('v');
    });

    test('a thin pool that runs full refuses what does not fit, and everything else stays', async () => {
      // Larger than what is behind it.
      run('vgcreate', '--yes', 'vgt', '/dev/vdd');
      run('lvcreate', '--yes', '--type', 'thin-pool', '--size', '24M', '--name', 'thin', 'vgt');
      run('lvchange', '--errorwhenfull', 'y', 'vgt/thin');
      const pool = openPool('full', logicalBackend, {
        source: { name: 'vgt/thin' },
        target: { path: '/dev/vgt' },
      });
      await pool.start();
      ends.push(
        () => pool.stop(),
        async () => run('vgremove', '--force', '--yes', 'vgt'),
      );
      const bytes = randomBytes(4 * MIB);
      const id = await upload(pool, 'v', bytes);
      const large = randomBytes(22 * MIB);
      assert.match((await codeOf(upload(pool, 'w', large))) ?? '', /^(no-space|io-error|ENOSPC|EIO)$/);
      assert.match((await codeOf(upload(pool, 'v', large, true))) ?? '', /^(no-space|io-error|ENOSPC|EIO)$/);
      const { availableBytes, capacityBytes } = await pool.space();
      assert.ok(
        availableBytes > capacityBytes / 2,
        `the room came back: ${availableBytes} of ${capacityBytes}`,
      );
      assert.equal((await pool.look('v')).id, id);
      assert.ok((await contentOf(pool, 'v')).subarray(0, bytes.length).equals(bytes));
      await upload(pool, 'w', randomBytes(2 * MIB));
      assert.deepEqual(await pool.orphans(), []);
    });
  });
