import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { poolContents, until } from '../support/controller.ts';
import { MigrationRoom, sentBytes } from '../support/migration.ts';
import { isRoot } from '../support/scratch.ts';

const MIB = 1 << 20;
/** `STOWAGE_FAULT_MIB=2048` makes it the longer run. */
const SIZE_MIB = Number(process.env.STOWAGE_FAULT_MIB ?? 192);
const LIMIT = String(Math.round(SIZE_MIB / 3));
/** Slow enough to do something while it runs. */
const SLOW = String(Math.round(SIZE_MIB / 12));
/** What one interruption may cost on the wire, as promised. */
const RESENT = 16 * MIB;
/** TCP, IP, TLS and the control traffic beside the data. */
const OVERHEAD = 1.03;

const points = (count: number): number[] => Array.from({ length: count }, () => 0.1 + Math.random() * 0.8);

describe('a migration under faults', {
  skip: isRoot ? false : 'networks and file systems of the tests’ own need root',
}, () => {
  let room: MigrationRoom;
  before(async () => {
    room = await MigrationRoom.open();
  });
  after(() => room?.[Symbol.asyncDispose]());

  /** Lets one fault happen at a share of the way; the job must end well, with no more sent twice than promised. */
  async function survive(share: number, fault: () => Promise<void>): Promise<void> {
    const { name, digest } = await room.volume(SIZE_MIB);
    const before = sentBytes(room.source);
    const job = await room.migrate(name, { limit: LIMIT });
    await room.reached(job, share);
    await fault();
    const ended = await room.controller.ended(job);
    assert.equal(ended.state, 'done', `${ended.error?.code}: ${ended.error?.message}`);
    const extra = sentBytes(room.source) - before - SIZE_MIB * MIB * OVERHEAD;
    assert.ok(extra <= RESENT, `${(extra / MIB).toFixed(1)} MiB were sent twice`);
    await room.verify(name, digest, 'sink');
  }

  for (const share of points(2)) {
    test(`kill -9 of the source agent at ${(share * 100).toFixed(0)} %`, () =>
      survive(share, async () => room.source.killAgent()));
    test(`kill -9 of the sink agent at ${(share * 100).toFixed(0)} %`, () =>
      survive(share, async () => room.sink.killAgent()));
    test(`kill -9 of the controller at ${(share * 100).toFixed(0)} %`, () =>
      survive(share, async () => {
        await room.controller.kill();
        await room.controller.restart();
      }));
    test(`the sink's cable pulled and put back at ${(share * 100).toFixed(0)} %`, () =>
      survive(share, async () => {
        room.sink.cut();
        await new Promise((resolve) => setTimeout(resolve, 2000));
        room.sink.heal();
      }));
  }

  for (const share of points(2)) {
    test(`cancelled at ${(share * 100).toFixed(0)} %: rolled back, the source is the volume`, async () => {
      const { name, digest } = await room.volume(SIZE_MIB);
      const job = await room.migrate(name, { limit: SLOW });
      await room.reached(job, share);
      // Not by the command, which takes a second to begin: the rest would have arrived on a busy machine.
      await room.controller.api(`/jobs/${job}/cancel`, {});
      assert.equal((await room.controller.ended(job)).state, 'cancelled');
      await room.verify(name, digest, 'source');
    });
  }

  test('the sink runs full: rolled back with the reason, the source is the volume', async () => {
    await room.controller.addPool(room.sink, room.smallPool, 'small');
    const { name, digest } = await room.volume(SIZE_MIB);
    const job = await room.migrate(name, { pool: 'small' });
    const ended = await room.controller.ended(job);
    assert.equal(ended.state, 'failed');
    assert.equal(ended.error?.code, 'no-space', ended.error?.message);
    await room.verify(name, digest, 'source', room.smallPool);
    await room.controller.cliOk('pool', 'stop', `${room.sink.name}/small`);
    await room.controller.cliOk('pool', 'delete', `${room.sink.name}/small`);
  });

  test('a second writer through us is refused, naming the holder, for the whole of the stream', async () => {
    const { name, digest } = await room.volume(SIZE_MIB);
    const job = await room.migrate(name, { limit: SLOW });
    await room.reached(job, 0.2);
    const reference = `${room.source.name}/p/${name}`;
    for (const args of [
      ['vol', 'delete', reference],
      ['vol', 'resize', reference, '1G'],
      ['vol', 'wipe', reference],
      ['vol', 'migrate', reference, `${room.sink.name}/p/other`],
    ]) {
      const refused = await room.controller.cli(...args);
      assert.equal(refused.status, 4, args.join(' '));
      assert.match(refused.stderr, new RegExp(`job ${job} \\(migrate, \\d+ %, started by admin\\)`));
    }
    assert.equal((await room.controller.ended(job)).state, 'done');
    await room.verify(name, digest, 'sink');
  });

  test('a second writer behind our back is noticed: nothing mixed becomes a volume', async () => {
    const { name } = await room.volume(SIZE_MIB);
    const job = await room.migrate(name, { limit: LIMIT });
    await room.reached(job, 0.5);
    appendFileSync(join(room.sourcePool, name), 'written by somebody else');
    const ended = await room.controller.ended(job);
    assert.equal(ended.state, 'failed');
    assert.equal(ended.error?.code, 'volume-in-use');
    assert.ok(!(await poolContents(room.sinkPool)).volumes.includes(name));
  });

  test('a sparse volume costs its allocation and 1 % on the wire', async () => {
    const { name, digest } = await room.volume(1024, 64);
    const job = await room.migrate(name);
    const ended = await room.controller.ended(job);
    assert.equal(ended.state, 'done');
    assert.ok(ended.wireBytes <= 64 * MIB * 1.01, `${ended.wireBytes} bytes`);
    await room.verify(name, digest, 'sink');
  });

  test('leftovers of a controller that is gone are collected', async () => {
    const { name } = await room.volume(64);
    const job = await room.migrate(name, { limit: '8' });
    await room.reached(job, 0.2);
    await room.controller.kill();
    // The controller forgets the job, as one whose store was lost does.
    const { default: Database } = await import('better-sqlite3');
    const store = new Database(join(room.controller.directory, 'stowage.db'));
    store.exec('DELETE FROM leases; DELETE FROM job_steps; DELETE FROM jobs');
    store.close();
    await room.controller.restart();
    assert.equal((await poolContents(room.sinkPool)).transfers.length, 1);
    // Young transfers are spared; housekeeping comes every minute.
    await until('collected', async () => (await poolContents(room.sinkPool)).transfers.length === 0, 150_000);
  });
});
