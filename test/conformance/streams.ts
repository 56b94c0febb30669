import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { runOk } from '../../agent/host/run.ts';
import type { OpenPool } from '../../agent/pools/open-pool.ts';
import type { ReceivedStream, SentStream } from '../../shared/conf/stream.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import type { It, Room } from './suite.ts';

const MIB = 1 << 20;

/** How the suite puts content into a new volume, and over it, and reads that of one. */
interface Hands {
  fill(room: Room, name: string, bytes: Buffer): Promise<Volume>;
  overwrite?(name: string, bytes: Buffer): void | Promise<void>;
  contentOf(room: Room, name: string, reading?: { snapshot?: string }): Promise<Buffer>;
}

/** A volume as a stream of its storage. */
export async function sent(pool: OpenPool, name: string, stream: SentStream): Promise<Buffer> {
  const { id, tool, args } = await pool.beginSending(name, stream);
  try {
    const stdout = new PassThrough();
    const [bytes] = await Promise.all([buffer(stdout), runOk(tool, [...args], { stdout })]);
    return bytes;
  } finally {
    await pool.dropStream(id);
  }
}

/** A volume of a stream. */
export async function received(
  pool: OpenPool,
  name: string,
  bytes: Buffer,
  stream: ReceivedStream = {},
): Promise<Volume> {
  const { id, tool, args } = await pool.beginReceiving(name, stream);
  try {
    await runOk(tool, [...args], { stdin: Readable.from([bytes]) }).catch(async (error) => {
      if (stream.base !== undefined) await pool.endReceiving(id, name, { base: stream.base });
      throw error;
    });
    return await pool.endReceiving(id, name, stream);
  } finally {
    await pool.dropStream(id);
  }
}

const idsOf = async (pool: OpenPool, name: string): Promise<string[]> =>
  (await pool.listSnapshots(name)).map(({ id }) => id).sort();

/** Volumes that leave, and arrive, as their storage itself writes them. */
export function streamTests(it: It, { fill, overwrite, contentOf }: Hands): void {
  const needs = {
    trait: ({ streams }: { streams?: readonly string[] }) => streams !== undefined,
    why: 'its storage writes no streams',
  };

  it('goes out as a stream of its storage, and comes in with its snapshots', needs, async (room) => {
    const { pool } = room;
    const [one, two] = [randomBytes(MIB), randomBytes(MIB)];
    const holds = async (name: string, bytes: Buffer, snapshot?: string): Promise<void> =>
      assert.ok(
        (await contentOf(room, name, { snapshot })).subarray(0, MIB).equals(bytes),
        `${name} ${snapshot}`,
      );
    const { id, capacityBytes } = await fill(room, 'v', one);
    await pool.createSnapshot('v', 'one');
    await overwrite?.('v', two);
    await pool.createSnapshot('v', 'two');
    await overwrite?.('v', one);
    await pool.createSnapshot('v', 'three');

    const whole = await sent(pool, 'v', { snapshot: 'two', older: true });
    const made = await received(pool, 'w', whole, { snapshot: 'two' });
    assert.notEqual(made.id, id);
    assert.deepEqual(
      [made.format, made.capacityBytes, made.snapshotCount, made.isBase ?? false],
      ['raw', capacityBytes, 2, false],
    );
    assert.deepEqual(await idsOf(pool, 'w'), ['one', 'two']);
    await holds('w', two);
    await holds('w', one, 'one');

    const alone = await sent(pool, 'v', { snapshot: 'one', older: false });
    const bare = await received(pool, 'x', alone, { snapshot: 'one', deleteSnapshot: 'one' });
    assert.equal(bare.snapshotCount, 0);
    await holds('x', one);
    await overwrite?.('x', two);
    await holds('x', two);
    await holds('v', one);

    await using again = await room.reopen();
    assert.deepEqual([...again.seen.keys()].sort(), ['v', 'w', 'x']);
    assert.equal(again.seen.get('w')?.id, made.id);
  });

  it('what is no stream of one whole volume makes nothing', needs, async (room) => {
    const { pool } = room;
    await fill(room, 'v', randomBytes(MIB));
    await pool.createSnapshot('v', 'one');
    await assert.rejects(sent(pool, 'v', { snapshot: 'no', older: false }), { code: 'snapshot-not-found' });
    await assert.rejects(sent(pool, 'absent', { snapshot: 'one', older: false }), {
      code: 'volume-not-found',
    });
    await pool.create({ name: 'q', capacityBytes: MIB, format: 'qcow2', preallocate: false });
    await pool.createSnapshot('q', 'one');
    await assert.rejects(sent(pool, 'q', { snapshot: 'one', older: false }), { code: 'not-supported' });
    const stream = await sent(pool, 'v', { snapshot: 'one', older: true });
    await assert.rejects(received(pool, 'v', stream), { code: 'volume-exists' });
    for (const wrong of [{ snapshot: 'two' }, { deleteSnapshot: 'two' }])
      await assert.rejects(received(pool, 'w', stream, wrong), { code: 'invalid-image' });
    for (const [what, bytes] of [
      ['nothing', Buffer.alloc(0)],
      ['noise', randomBytes(64 << 10)],
      ['a cut one', stream.subarray(0, stream.length - 1000)],
      ['half of one', stream.subarray(0, stream.length / 2)],
    ] as const)
      await assert.rejects(received(pool, 'w', bytes), /.+/, what);
    assert.deepEqual([...room.seen.keys()].sort(), ['q', 'v']);
    assert.deepEqual(await pool.orphans(), []);
    await pool.refresh();
    assert.deepEqual([...room.seen.keys()].sort(), ['q', 'v']);
    assert.equal((await received(pool, 'w', stream)).snapshotCount, 1);
  });
}
