import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import type { FleetVolume, JobDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('volumes that are overwritten before they go', () => {
  const room = scratch();
  const at = (name: string): string => join(room.path, name);
  const content = randomBytes(24 * MIB);
  let controller: TestController;

  before(async () => {
    controller = await TestController.start(at('controller'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
    writeFileSync(at('file'), content);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** Makes a volume, and opens its file, whatever becomes of its name. */
  async function made(name: string, format = 'raw'): Promise<FileHandle> {
    const reference = `local/default/${name}`;
    await controller.cliOk('vol', 'upload', at('file'), reference, '--format', format, '--as', 'content');
    const { path } = await controller.api<FleetVolume>(`/hosts/local/pools/default/volumes/${name}`);
    return open(path, 'r');
  }
  const jobIn = (words: string): string => /job (\d+)/.exec(words)![1]!;
  const jobOf = (id: string): Promise<JobDetails> => controller.api<JobDetails>(`/jobs/${id}`);
  const trash = (): Promise<TrashedVolume[]> => controller.api('/hosts/local/pools/default/trash');

  test('the name is free at once; a controller that is killed meanwhile goes on, at the rate that was asked for', async () => {
    await using file = await made('v');
    assert.ok((await file.read(Buffer.alloc(24 * MIB), 0, 24 * MIB, 0)).buffer.equals(content));
    const began = performance.now();
    const told = await controller.cliOk(
      'vol',
      'delete',
      'local/default/v',
      '--wipe',
      '--limit',
      '4M',
      '--yes',
    );
    assert.match(told, /^local\/default\/v deleted; job \d+ overwrites what it held/);
    const id = jobIn(told);
    await controller.cliOk('vol', 'create', 'local/default/v', '--capacity', '1M', '--format', 'raw');
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
    assert.ok(
      (await file.read(Buffer.alloc(24 * MIB), 0, 24 * MIB, 0)).buffer.equals(Buffer.alloc(24 * MIB)),
    );
    assert.deepEqual(await trash(), []);
    assert.match(await controller.cliOk('vol', 'list', 'local/default', '-o', 'name'), /local\/default\/v/);
    assert.match(await controller.cliOk('audit', 'list', '--action', 'volume.free'), new RegExp(`job ${id}`));
  });

  test('what is overwritten in part neither comes back nor goes before it is whole', async () => {
    await using file = await made('half', 'qcow2');
    const told = await controller.cliOk(
      'vol',
      'delete',
      'local/default/half',
      '--wipe',
      '--limit',
      '2M',
      '--yes',
    );
    const id = jobIn(told);
    await until('some is overwritten', async () => (await jobOf(id)).doneBytes > 0);
    await controller.cliOk('job', 'pause', id);
    await until('it is paused', async () => (await jobOf(id)).state === 'paused');
    const [trashed] = await trash();
    assert.ok(trashed!.wiped!.doneBytes > 0 && trashed!.wiped!.doneBytes < trashed!.wiped!.totalBytes!);
    const place = `local/default/${trashed!.id}`;
    await controller.cliRefused('volume-damaged', 'trash', 'restore', place);
    await controller.cliRefused('volume-not-wiped', 'trash', 'empty', 'local/default', trashed!.id, '--yes');
    await controller.cliOk('job', 'cancel', id);
    await until('it is cancelled', async () => (await jobOf(id)).state === 'cancelled');
    assert.equal((await trash()).length, 1);
    const again = await controller.api<JobDetails>(
      `/hosts/local/pools/default/trash/${trashed!.id}/free`,
      {},
    );
    assert.equal((await controller.ended(again.id)).state, 'done');
    const { size } = await file.stat();
    assert.ok((await file.read(Buffer.alloc(size), 0, size, 0)).buffer.equals(Buffer.alloc(size)));
    assert.deepEqual(await trash(), []);
  });

  test('what lies in the trash, and an image of a guest, are overwritten too', async () => {
    await using file = await made('kept');
    await controller.cliOk('vol', 'delete', 'local/default/kept', '--trash');
    const told = await controller.cliOk('trash', 'empty', 'local/default', '--all', '--wipe', '--yes');
    assert.match(told, /jobs overwrite and delete: kept/);
    await until('the trash is empty', async () => (await trash()).length === 0);
    assert.ok(
      (await file.read(Buffer.alloc(24 * MIB), 0, 24 * MIB, 0)).buffer.equals(Buffer.alloc(24 * MIB)),
    );
    await using image = await made('vm-100-disk-0.raw');
    const freed = await controller.cliOk(
      'image',
      'free',
      'local/default/vm-100-disk-0.raw',
      '--wipe',
      '--yes',
    );
    await controller.ended(Number(jobIn(freed)));
    assert.equal((await image.read(Buffer.alloc(1), 0, 1, MIB)).buffer[0], 0);
  });

  test('what cannot be overwritten stays, and is told before', async () => {
    await using _file = await made('s', 'qcow2');
    await controller.cliOk('vol', 'snapshot', 'create', 'local/default/s', 'one');
    await controller.cliRefused(
      'volume-has-snapshots',
      'vol',
      'delete',
      'local/default/s',
      '--wipe',
      '--yes',
    );
    await controller.cliRefused(
      'invalid-argument',
      'vol',
      'delete',
      'local/default/s',
      '--limit',
      '1M',
      '--yes',
    );
    await controller.cliOk('vol', 'set', 'local/default/v', '--protected', 'on');
    await controller.cliRefused('volume-protected', 'vol', 'delete', 'local/default/v', '--wipe', '--yes');
    assert.ok(readFileSync(at('file')).equals(content));
    assert.deepEqual(await trash(), []);
  });
});
