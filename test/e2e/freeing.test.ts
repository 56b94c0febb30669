import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import type { FleetVolume, JobDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('volumes that are overwritten before they go', { skip: isRoot ? false : 'only root mounts' }, () => {
  const room = scratch();
  const at = (name: string): string => join(room.path, name);
  const content = randomBytes(24 * MIB);
  let controller: TestController;
  let disk: AsyncDisposable | undefined;

  before(async () => {
    mkdirSync(at('disk'));
    disk = mountFileSystem('ext4', 192, at('disk'));
    controller = await TestController.start(at('controller'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
    await controller.cliOk('pool', 'create-as', 'local', 'p', 'dir', '--target', at('disk/p'), '--build');
    writeFileSync(at('raw'), content);
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', at('raw'), at('qcow2')]);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await disk?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** As it is: what is converted leaves a copy on the disk, which nobody looks for. */
  const upload = (name: string, format: 'raw' | 'qcow2' = 'raw'): Promise<string> =>
    controller.cliOk('vol', 'upload', at(format), `local/p/${name}`, '--format', format);
  /** How many of 24 places of the content are on the disk under the pool. */
  const onDisk = (): number => {
    const bytes = readFileSync(at('disk.img'));
    return Array.from({ length: 24 }, (_, index) => content.subarray(index * MIB, index * MIB + 64)).filter(
      (part) => bytes.includes(part),
    ).length;
  };
  const jobIn = (words: string): string => /jobs? (\d+)/.exec(words)![1]!;
  const jobOf = (id: string): Promise<JobDetails> => controller.api<JobDetails>(`/jobs/${id}`);
  const trash = (): Promise<TrashedVolume[]> => controller.api('/hosts/local/pools/p/trash');

  test('the name is free at once; a controller that is killed meanwhile goes on, at the rate that was asked for', async () => {
    await upload('v');
    assert.equal(onDisk(), 24);
    const began = performance.now();
    const told = await controller.cliOk('vol', 'delete', 'local/p/v', '--wipe', '--limit', '4M', '--yes');
    assert.match(told, /^local\/p\/v deleted; job \d+ overwrites what it held/);
    const id = jobIn(told);
    await controller.cliOk('vol', 'create', 'local/p/v', '--capacity', '1M', '--format', 'raw');
    const some = await until('some is overwritten', async () => {
      const { doneBytes, totalBytes } = await jobOf(id);
      return doneBytes > 0 && doneBytes < totalBytes && doneBytes;
    });
    await controller.kill();
    await controller.restart();
    const { state, doneBytes } = await controller.ended(Number(id));
    assert.equal(state, 'done');
    assert.ok(doneBytes > some);
    assert.ok(performance.now() - began > 4000, 'slower than 4 MiB a second');
    assert.equal(onDisk(), 0);
    assert.deepEqual(await trash(), []);
    assert.match(await controller.cliOk('vol', 'list', 'local/p', '-o', 'name'), /local\/p\/v/);
    const trail = await controller.cliOk('audit', 'list', '--action', 'volume.free');
    assert.match(trail, new RegExp(`overwritten, at most 4.00 MiB a second.*job ${id}`));
  });

  test('what is overwritten in part neither comes back nor goes before it is whole', async () => {
    await upload('half', 'qcow2');
    const told = await controller.cliOk('vol', 'delete', 'local/p/half', '--wipe', '--limit', '2M', '--yes');
    const id = jobIn(told);
    await until('some is overwritten', async () => (await jobOf(id)).doneBytes > 0);
    await controller.cliOk('job', 'pause', id);
    await until('it is paused', async () => (await jobOf(id)).state === 'paused');
    const [trashed] = await trash();
    assert.ok(trashed!.wiped!.doneBytes > 0 && trashed!.wiped!.doneBytes < trashed!.wiped!.totalBytes!);
    assert.match(await controller.cliOk('trash', 'list', 'local/p'), / \d+ %/);
    const place = `local/p/${trashed!.id}`;
    await controller.cliRefused('volume-damaged', 'trash', 'restore', place);
    await controller.cliRefused('volume-not-wiped', 'trash', 'empty', 'local/p', trashed!.id, '--yes');
    const another = ['trash', 'empty', 'local/p', '--all', '--wipe', '--yes'];
    assert.match(await controller.cliRefused('volume-in-use', ...another), new RegExp(`job ${id}`));
    await controller.cliOk('job', 'cancel', id);
    await until('it is cancelled', async () => (await jobOf(id)).state === 'cancelled');
    assert.equal((await trash()).length, 1);
    await controller.ended(Number(jobIn(await controller.cliOk(...another))));
    assert.equal(onDisk(), 0);
    assert.deepEqual(await trash(), []);
  });

  test('what lies in the trash, and an image of a guest with its snapshots, are overwritten too', async () => {
    await upload('kept');
    await controller.cliOk('vol', 'delete', 'local/p/kept', '--trash');
    const told = await controller.cliOk('trash', 'empty', 'local/p', '--all', '--wipe', '--yes');
    assert.match(told, /overwritten, and then deleted: kept \(jobs \d+\)/);
    await until('the trash is empty', async () => (await trash()).length === 0);
    await upload('vm-100-disk-0.qcow2', 'qcow2');
    const image = 'local/p/vm-100-disk-0.qcow2';
    await controller.cliOk('vol', 'snapshot', 'create', image, 'one');
    await controller.cliRefused('volume-has-snapshots', 'image', 'free', image, '--wipe', '--yes');
    // They are in the file, and overwritten with it.
    const freed = await controller.cliOk('image', 'free', image, '--wipe', '--delete-snapshots', '--yes');
    await controller.ended(Number(jobIn(freed)));
    assert.equal(onDisk(), 0);
  });

  test('what is to be overwritten is not deleted as it is, but where that is said', async () => {
    await upload('kept');
    await controller.cliOk('vol', 'delete', 'local/p/kept', '--trash');
    const [kept] = await trash();
    const path = `/hosts/local/pools/p/trash/${kept!.id}/free`;
    const slow = await controller.api<JobDetails>(path, { limitBytesPerSecond: 1 });
    await controller.cliOk('job', 'cancel', String(slow.id));
    await controller.ended(slow.id);
    await controller.cliRefused('volume-not-wiped', 'trash', 'empty', 'local/p', '--all', '--yes');
    await controller.cliOk('trash', 'empty', 'local/p', '--all', '--unwiped', '--yes');
    assert.deepEqual(await trash(), []);
  });

  test('what cannot be overwritten stays as it is, under its name', async () => {
    await upload('s', 'raw');
    const { path, id } = await controller.api<FleetVolume>('/hosts/local/pools/p/volumes/s');
    const fd = openSync(path, 'r+');
    const guest = spawn('sleep', ['600'], { stdio: [fd, 'ignore', 'ignore'] });
    closeSync(fd);
    try {
      await controller.cliRefused('volume-in-use', 'vol', 'delete', 'local/p/s', '--wipe', '--yes');
    } finally {
      guest.kill('SIGKILL');
    }
    await controller.cliRefused('invalid-argument', 'vol', 'delete', 'local/p/s', '--limit', '1M', '--yes');
    await controller.cliOk('vol', 'set', 'local/p/s', '--protected', 'on');
    await controller.cliRefused('volume-protected', 'vol', 'delete', 'local/p/s', '--wipe', '--yes');
    assert.equal((await controller.api<FleetVolume>('/hosts/local/pools/p/volumes/s')).id, id);
    assert.ok(readFileSync(path).equals(content));
    assert.deepEqual(await trash(), []);

    // Storage that writes elsewhere would only say that it has overwritten something.
    mkdirSync(at('btrfs'));
    await using _mounted = mountFileSystem('btrfs', 192, at('btrfs'));
    const target = at('btrfs/pool');
    await controller.cliOk('pool', 'create-as', 'local', 'tree', 'btrfs', '--target', target, '--build');
    await controller.cliOk('vol', 'create', 'local/tree/t', '--capacity', '1M', '--format', 'raw');
    await controller.cliRefused('not-supported', 'vol', 'delete', 'local/tree/t', '--wipe', '--yes');
    assert.match(await controller.cliOk('vol', 'list', 'local/tree', '-o', 'name'), /local\/tree\/t/);
    await controller.cliOk('pool', 'stop', 'local/tree');
  });
});
