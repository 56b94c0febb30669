import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { dirBackend } from '../../agent/backends/dir/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import type { OpenedStage } from '../../agent/pools/operations.ts';
import { Sink } from '../../agent/transfer/sink.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { Volume } from '../../shared/conf/volume.ts';
import type { TransferSpec } from '../../shared/protocol/agent.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import { digestOf, zeroDigest } from '../../shared/transfer/digest.ts';
import { scratch } from '../support/scratch.ts';

interface TestPool {
  openSink(wanted: TransferSpec): Promise<Sink>;
  stages(): Promise<OpenedStage[]>;
  refresh(): Promise<Volume[]>;
  pool: OpenPool;
}

async function poolIn(path: string): Promise<TestPool> {
  mkdirSync(path, { recursive: true });
  const definition = poolDefinitionSchema.parse({
    name: 'p',
    uuid: randomUUID(),
    type: 'dir',
    target: { path },
  });
  const state = `${path}-state`;
  mkdirSync(state, { recursive: true });
  const pool = new OpenPool(
    dirBackend.open(definition, {
      agentId: 'agent',
      stateDirectory: async () => state,
      imageDirectories: () => [],
      secret: () => '',
      ownsStorage: true,
      alone: <T>(work: () => Promise<T>) => work(),
    }),
  );
  const volumes = new Map<string, Volume>();
  pool.on('change', (change) => {
    for (const { name } of change.gone) volumes.delete(name);
    for (const volume of change.volumes) volumes.set(volume.name, volume);
  });
  await pool.start();
  pools.push(pool);
  return {
    pool,
    openSink: async (wanted) => Sink.open(await pool.stage(wanted)),
    stages: () => pool.stages(),
    async refresh() {
      await pool.refresh();
      return [...volumes.values()];
    },
  };
}

/** What a pool follows keeps its process running. */
const pools: OpenPool[] = [];
after(async () => {
  for (const pool of pools) await pool.stop();
});

const spec = (sizeBytes: number, volume = 'v') => ({
  id: randomUUID(),
  pool: 'p',
  volume,
  format: 'raw' as const,
  representation: 'image' as const,
  parts: [{ name: '', sizeBytes, dense: false }],
  replace: false,
  allowUsed: false,
  digest: 'gmac' as const,
});

async function dataChunk(
  index: number,
  bytes: Buffer<ArrayBuffer>,
  ranges = [{ start: 0, end: bytes.length }],
) {
  return {
    index,
    digest: await digestOf('gmac', bytes),
    verified: Promise.resolve(),
    data: { bytes, ranges },
  };
}

describe('a sink', () => {
  test('a chunk that is sent again with other bytes leaves nothing of the first', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    const sink = await pool.openSink(spec(2 * CHUNK_BYTES));
    await sink.write(await dataChunk(0, randomBytes(CHUNK_BYTES)));
    await sink.write(await dataChunk(1, randomBytes(CHUNK_BYTES)));
    // The source has changed: the first chunk is zeros now, the second has data in its middle only.
    await sink.write({
      index: 0,
      digest: zeroDigest('gmac', CHUNK_BYTES),
      verified: Promise.resolve(),
      data: undefined,
    });
    const second = Buffer.alloc(CHUNK_BYTES);
    randomBytes(65536).copy(second, 1 << 20);
    await sink.write(await dataChunk(1, second, [{ start: 1 << 20, end: (1 << 20) + 65536 }]));
    await sink.commit(undefined);
    assert.ok(
      readFileSync(join(room.path, 'pool/v')).equals(Buffer.concat([Buffer.alloc(CHUNK_BYTES), second])),
    );
  });

  test('one that cannot be opened hides no other, and leaves nothing', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    await assert.rejects(pool.openSink(spec(2 ** 52, 'huge')));
    const good = await pool.openSink(spec(CHUNK_BYTES));
    assert.deepEqual(
      (await pool.stages()).map((stage) => stage.spec.id),
      [good.spec.id],
    );
    await pool.pool.stop();
    const again = await poolIn(join(room.path, 'pool'));
    assert.equal((await again.stages()).length, 1);
  });

  test('bytes of another container are refused where nobody said what they are', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    const head = Buffer.alloc(CHUNK_BYTES);
    head.write('KDMV', 0, 'latin1');
    const assumed = await pool.openSink({ ...spec(CHUNK_BYTES, 'a'), formatAssumed: true });
    await assert.rejects(assumed.write(await dataChunk(0, head)), {
      code: 'invalid-image',
      message: /looks like vmdk/,
    });
    const told = await pool.openSink(spec(CHUNK_BYTES, 'b'));
    await told.write(await dataChunk(0, Buffer.from(head)));
  });

  test('while it is put in place it takes no data and cannot be taken back', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    const sink = await pool.openSink(spec(CHUNK_BYTES));
    await sink.write(await dataChunk(0, randomBytes(CHUNK_BYTES)));
    const committing = sink.commit(undefined);
    await assert.rejects(sink.abort(), { code: 'job-state' });
    await assert.rejects(
      sink.write({
        index: 0,
        digest: zeroDigest('gmac', CHUNK_BYTES),
        verified: Promise.resolve(),
        data: undefined,
      }),
      {
        code: 'job-state',
      },
    );
    await committing;
    assert.equal((await pool.refresh()).length, 1);
  });

  test('a commit with chunks missing is refused, and they may still come', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    const sink = await pool.openSink(spec(2 * CHUNK_BYTES));
    const [first, second] = [randomBytes(CHUNK_BYTES), randomBytes(CHUNK_BYTES)];
    await sink.write(await dataChunk(0, first));
    await assert.rejects(sink.commit(undefined), { code: 'upload-offset' });
    // The same chunk from two connections at once, and two who wait for what is written.
    await Promise.all([
      sink.write(await dataChunk(1, second)),
      sink.write(await dataChunk(1, second)),
      sink.flush(),
      sink.flush(),
    ]);
    await sink.commit(undefined);
    assert.ok(readFileSync(join(room.path, 'pool/v')).equals(Buffer.concat([first, second])));
  });

  test('a volume published while the pool is looked at keeps its id', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    for (let round = 0; round < 20; round++) {
      const wanted = spec(4096, `v${round}`);
      const sink = await pool.openSink(wanted);
      await sink.write(await dataChunk(0, randomBytes(4096)));
      const [{ volume }] = await Promise.all([sink.commit(undefined), pool.refresh(), pool.refresh()]);
      const listed = (await pool.refresh()).find(({ name }) => name === wanted.volume);
      assert.equal(listed?.id, volume.id);
      assert.equal((await pool.pool.committed(wanted.id))?.id, volume.id);
    }
  });

  test('deleting only what was read: a volume that changed meanwhile stays', async () => {
    await using room = scratch();
    const pool = await poolIn(join(room.path, 'pool'));
    const volume = await pool.pool.create({
      name: 'v',
      capacityBytes: 4096,
      format: 'raw',
      preallocate: false,
    });
    await pool.pool.resize('v', 8192, false);
    await assert.rejects(pool.pool.remove('v', { etag: volume.etag }), { code: 'volume-changed' });
    assert.equal((await pool.refresh()).length, 1);
  });
});
