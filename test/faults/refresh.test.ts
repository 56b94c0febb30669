import assert from 'node:assert/strict';
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { FleetVolume, JobDetails } from '../../shared/protocol/api.ts';
import { poolContents, until } from '../support/controller.ts';
import { MigrationRoom, makeImage } from '../support/migration.ts';
import { isRoot, sha256 } from '../support/scratch.ts';

const MIB = 1 << 20;
const SIZE_MIB = 96;

describe('a copy that is brought up to date', {
  skip: isRoot ? false : 'networks of the tests’ own need root',
}, () => {
  let room: MigrationRoom;
  before(async () => {
    room = await MigrationRoom.open();
  });
  after(() => room?.[Symbol.asyncDispose]());

  const target = (name: string): string => `${room.sink.name}/p/${name}-copy`;
  const copyPath = (name: string): string => join(room.sinkPool, `${name}-copy`);
  const sourcePath = (name: string): string => join(room.sourcePool, name);

  async function copy(name: string, more: object = {}): Promise<number> {
    const json = { target: target(name), keepSource: true, ...more };
    const path = `/hosts/${room.source.name}/pools/p/volumes/${name}/migrate`;
    return (await room.controller.api<JobDetails>(path, json)).id;
  }
  async function done(job: number): Promise<JobDetails> {
    const ended = await room.controller.ended(job);
    assert.equal(ended.state, 'done', `${ended.error?.code}: ${ended.error?.message}`);
    return ended;
  }
  const shown = (name: string): Promise<FleetVolume> =>
    room.controller.api<FleetVolume>(`/hosts/${room.sink.name}/pools/p/volumes/${name}-copy`);

  function write(name: string, offset: number): void {
    const fd = openSync(sourcePath(name), 'r+');
    writeSync(fd, Buffer.from('something else'), 0, 14, offset);
    fsyncSync(fd);
    closeSync(fd);
  }
  const isClean = () =>
    until(
      'nothing half-written is left',
      async () => (await poolContents(room.sinkPool)).transfers.length === 0,
    );

  test('gets only the chunks that differ, and stays the same volume', async () => {
    const { name } = await room.volume(SIZE_MIB);
    // Where there is no copy yet, it is made.
    assert.ok((await done(await copy(name, { refresh: true }))).wireBytes >= SIZE_MIB * MIB);
    const { id } = await shown(name);
    const { wireBytes: none } = await done(await copy(name, { refresh: true }));
    assert.ok(none < 100_000, `${none} bytes for nothing new`);
    write(name, 10 * MIB);
    write(name, 70 * MIB + 5);
    const { wireBytes } = await done(await copy(name, { refresh: true }));
    assert.ok(wireBytes < 4 * MIB + 100_000, `${wireBytes} bytes for two chunks of 2 MiB`);
    assert.equal(await sha256(copyPath(name)), await sha256(sourcePath(name)));
    assert.equal((await shown(name)).id, id);
    await isClean();
  });

  test('follows its source to another size', async () => {
    const { name } = await room.volume(SIZE_MIB);
    await done(await copy(name));
    const volume = `${room.source.name}/p/${name}`;
    for (const capacity of [`${SIZE_MIB + 9}M`, `${SIZE_MIB - 31}M`]) {
      await room.controller.cliOk('vol', 'resize', volume, capacity, '--shrink', '--yes');
      const { wireBytes } = await done(await copy(name, { refresh: true }));
      assert.ok(wireBytes < 4 * MIB, `${wireBytes}`);
      assert.equal(await sha256(copyPath(name)), await sha256(sourcePath(name)));
    }
  });

  for (const [what, fault] of [
    ['the agent of the copy', async () => room.sink.killAgent()],
    ['the agent of the source', async () => room.source.killAgent()],
    [
      'the controller',
      async () => {
        await room.controller.kill();
        await room.controller.restart();
      },
    ],
  ] as const)
    test(`outlives a kill of ${what}; until the new copy is whole the old one is there`, async () => {
      const { name, digest: old } = await room.volume(SIZE_MIB);
      await done(await copy(name));
      await makeImage(sourcePath(name), SIZE_MIB, SIZE_MIB);
      const job = await copy(name, { refresh: true, limitBytesPerSecond: 24 * MIB });
      await room.reached(job, 0.3);
      assert.equal(await sha256(copyPath(name)), old);
      await fault();
      await done(job);
      assert.equal(await sha256(copyPath(name)), await sha256(sourcePath(name)));
      await isClean();
    });

  test('that is cancelled stays as it was', async () => {
    const { name, digest: old } = await room.volume(SIZE_MIB);
    await done(await copy(name));
    await makeImage(sourcePath(name), SIZE_MIB, SIZE_MIB);
    const { etag } = await shown(name);
    const job = await copy(name, { refresh: true, limitBytesPerSecond: 12 * MIB });
    await room.reached(job, 0.3);
    await room.controller.api(`/jobs/${job}/cancel`, {});
    assert.equal(await sha256(copyPath(name)), old);
    assert.equal((await shown(name)).etag, etag);
    await isClean();
  });

  test('has a source: a move refreshes nothing', async () => {
    const { name } = await room.volume(4);
    await assert.rejects(copy(name, { refresh: true, keepSource: false }), /keeps its source/);
    await done(await copy(name));
    const again = await room.controller.ended(await copy(name));
    assert.equal(again.error?.code, 'volume-exists', 'without being asked nothing is replaced');
  });
});
