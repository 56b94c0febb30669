import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { Backend, Feature, Traits } from '../../agent/backends/backend.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import type { OpenedVolume, Opening, PoolChange } from '../../agent/pools/operations.ts';
import { Sink } from '../../agent/transfer/sink.ts';
import { type PoolDefinition, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { NewVolume, Volume, VolumeFormat } from '../../shared/conf/volume.ts';
import type { TransferSpec } from '../../shared/protocol/agent.ts';
import { CHUNK_BYTES, ChunkMap } from '../../shared/transfer/chunks.ts';
import { scratch } from '../support/scratch.ts';
import { attributeTests } from './attributes.ts';
import { streamTests } from './streams.ts';

const MIB = 1 << 20;

/** Storage for one pool, made for one test. */
export interface Ground extends AsyncDisposable {
  /** What the pool is, but for its name and UUID. */
  definition: Record<string, unknown>;
  /** Volumes that are there from the beginning, where the pool makes none. */
  units?: readonly string[];
  /** What one of them holds, asked of its storage. */
  bytesOf?(unit: string): Buffer | Promise<Buffer>;
  /** Takes the storage away from under a running pool, and brings it back as it was. */
  away?(): void | Promise<void>;
  back?(): void | Promise<void>;
  /** Keeps the storage from being let go of, as a guest does that has a volume open. */
  hold?(volume: string): Disposable;
  /** Does what somebody beside Stowage may do to a volume. */
  outside?: {
    make(name: string, bytes: Buffer): void | Promise<void>;
    change(name: string): void | Promise<void>;
    rename(from: string, to: string): void | Promise<void>;
    remove(name: string): void | Promise<void>;
  };
}

export interface Suite {
  name: string;
  backend: Backend;
  /** Of these pools, where they differ from those of the type. */
  traits?: Traits;
  /** Storage with room for so many MiB, at least. */
  ground(path: string, sizeMiB: number): Ground | Promise<Ground>;
  /** Each step takes long there: what is the same on all storage of its kind is tried on faster one. */
  slow?: boolean;
  /** What is in it ends with the process. */
  inMemory?: boolean;
  /** Writes to a volume as a guest does, durably. */
  overwrite?(name: string, bytes: Buffer): void | Promise<void>;
  /** Its storage writes elsewhere than over what it holds. */
  neverOverwrites?: boolean;
  /** Tests that cannot be for this backend, each with its reason. */
  skip?: { tests: string[]; reason: string }[];
}

/** A started pool, and everything it has told. */
export interface Room extends AsyncDisposable {
  /** What is in it ends with the process. */
  inMemory: boolean;
  canShrink: boolean;
  pool: OpenPool;
  ground: Ground;
  seen: Map<string, Volume>;
  changes: PoolChange[];
  /** The same storage, opened anew as after a restart of the agent. */
  reopen(): Promise<Room>;
  /** The same storage, opened beside this by the agent of another host. */
  elsewhere(): Promise<Room>;
}

/** Declares a test: what the backend must be able to do for it, and what it does in a new pool. */
export type It = (
  name: string,
  needs: { feature?: Feature; also?: Feature; trait?: (traits: Traits) => boolean; why?: string },
  work: (room: Room) => Promise<void>,
  sizeMiB?: number,
) => void;

async function openRoom(
  suite: Suite,
  ground: Ground,
  definition: PoolDefinition,
  state: string,
  agentId = 'agent',
): Promise<Room> {
  mkdirSync(state, { recursive: true });
  const pool = new OpenPool(
    suite.backend.open(definition, {
      agentId,
      stateDirectory: async () => state,
      imageDirectories: () => [],
      secret: () => '',
      ownsStorage: true,
      alone: <T>(work: () => Promise<T>) => work(),
    }),
  );
  const seen = new Map<string, Volume>();
  const changes: PoolChange[] = [];
  pool.on('change', (change) => {
    changes.push(change);
    for (const { name } of change.gone) seen.delete(name);
    for (const volume of change.volumes) seen.set(volume.name, volume);
  });
  await pool.start();
  return {
    inMemory: suite.inMemory === true,
    canShrink: (suite.traits ?? suite.backend.traits).features.shrink !== undefined,
    pool,
    ground,
    seen,
    changes,
    async reopen() {
      await pool.stop();
      return openRoom(suite, ground, definition, state, agentId);
    },
    elsewhere() {
      const { path } = definition.target;
      // What a server gives out each host mounts for itself.
      const target =
        (suite.traits ?? suite.backend.traits).shared && path
          ? { path: `${path}-elsewhere` }
          : definition.target;
      return openRoom(suite, ground, { ...definition, target }, `${state}-elsewhere`, 'another');
    },
    async [Symbol.asyncDispose]() {
      // One that cannot be let go of is not watched any more either.
      await pool.stop().catch(() => pool.close());
    },
  };
}

const wanted = (name: string, format: VolumeFormat, capacityBytes = 4 * MIB): NewVolume => ({
  name,
  capacityBytes,
  format,
  preallocate: false,
});

const transfer = (volume: string, sizeBytes: number, more: Partial<TransferSpec> = {}): TransferSpec => ({
  id: randomUUID(),
  pool: 'p',
  volume,
  format: 'raw',
  representation: 'content',
  parts: [{ name: '', sizeBytes, dense: false }],
  replace: false,
  allowUsed: false,
  digest: 'gmac',
  ...more,
});

async function put(sink: Sink, bytes: Buffer): Promise<void> {
  const { map } = sink.digests;
  for (let index = 0; index < map.count; index++) {
    const { offset, length } = map.chunk(index);
    const chunk = Buffer.from(bytes.subarray(offset, offset + length));
    const zero = chunk.every((byte) => byte === 0);
    await sink.write({
      index,
      digest: zero ? map.zeroDigest(length) : await map.digestOf(chunk),
      verified: Promise.resolve(),
      data: zero ? undefined : { bytes: chunk, ranges: [{ start: 0, end: length }] },
    });
  }
}

/** Whether a volume still counts as it was when it was opened. */
const isUnchanged = (opened: OpenedVolume): Promise<boolean> =>
  opened.checkUnchanged().then(
    () => true,
    (error) => {
      assert.equal(error.code, 'volume-in-use');
      return false;
    },
  );

/** Clones of a snapshot of volume `v`, which holds `bytes`: what is written to one is in that alone. Leaves the volume without any. */
async function tryClonesOfSnapshot(
  pool: OpenPool,
  bytes: Buffer,
  others: Buffer,
  overwrite: Suite['overwrite'],
): Promise<void> {
  const { capacityBytes, format } = await pool.look('v');
  await pool.createSnapshot('v', 'then');
  await assert.rejects(pool.cloneLinked('v', 'c', 'no'), { code: 'snapshot-not-found' });
  await assert.rejects(pool.cloneLinked('v', 'v', 'then'), { code: 'volume-exists' });
  const clone = await pool.cloneLinked('v', 'c', 'then');
  assert.deepEqual(
    [clone.capacityBytes, clone.format, clone.snapshotCount, clone.isBase ?? false],
    [capacityBytes, format, 0, false],
  );
  const holds = async (name: string, expected: Buffer): Promise<void> =>
    assert.ok((await contentOf(pool, name)).subarray(0, MIB).equals(expected), name);
  await holds('c', bytes);
  if (overwrite) {
    await overwrite('c', others);
    await holds('c', others);
    await holds('v', bytes);
    await overwrite('v', others);
  }
  await pool.cloneLinked('v', 'd', 'then');
  await holds('d', bytes);
  // Where the storage keeps it for its clones it stays, else they live on without it.
  const goes = await pool.deleteSnapshot('v', 'then').then(
    () => true,
    (error) => {
      assert.equal(error.code, 'volume-in-use', error.message);
      return false;
    },
  );
  if (!goes)
    await assert.rejects(pool.remove('v', { deleteSnapshots: true }), {
      code: /^volume-has-(clones|snapshots)$/,
    });
  await holds('d', bytes);
  await pool.remove('c');
  await pool.remove('d');
  if (!goes) await pool.deleteSnapshot('v', 'then');
  assert.equal((await pool.look('v')).snapshotCount, 0);
}

async function contentOf(pool: OpenPool, name: string, reading: Partial<Opening> = {}): Promise<Buffer> {
  await using opened = await pool.open(name, { as: 'content', ...reading });
  const [source] = opened.sources;
  const bytes = Buffer.alloc(source!.sizeBytes);
  await source!.read(bytes, 0);
  await opened.checkUnchanged();
  return bytes;
}

const [TRASHED, OTHER_TRASHED] = ['0123456789ab', 'ba9876543210'];

/** A signal that is aborted when it is asked for the nth time. */
function abortedAt(nth: number): AbortSignal {
  const controller = new AbortController();
  const { signal } = controller;
  let asked = 0;
  signal.throwIfAborted = () => {
    if (++asked === nth) controller.abort();
    if (signal.aborted) throw new Error('enough');
  };
  return signal;
}

/** What is done with the bytes of a volume, whatever storage they are on, and of it what the storage has a part in. */
const SAME_EVERYWHERE = /qcow2|ploop|^notes/;
const DIFFERS = /grows|content goes/;

/** Of those that race, however slow the storage is. */
const LEAST_ROUNDS = 5;

/** For backends whose volumes are what those of others are: a key takes seconds to make. */
export const encryptedElsewhere = (where: 'files' | 'devices'): NonNullable<Suite['skip']>[number] => ({
  tests: ['what an encrypted volume holds comes out with its secret only'],
  reason:
    where === 'files'
      ? 'tried on local files: a file is encrypted in the same way wherever it lies'
      : 'tried on partitions and on Ceph: what is in a device is encrypted in the same way',
});

/**
 * Runs one backend through everything that a pool promises, on its real engine. Which tests are for it its traits say; a test
 * that a backend cannot have is skipped by its name, with a reason.
 */
export function runBackendSuite(suite: Suite): void {
  const { backend } = suite;
  const traits = suite.traits ?? backend.traits;
  // Keys take seconds to make and to open: what is encrypted has a test of its own.
  const formats = traits.formats.filter((format) => format !== 'luks');
  const names = new Set<string>();

  const it: It = (name, needs, work, sizeMiB = 64) => {
    names.add(name);
    const given = suite.skip?.find(({ tests }) => tests.includes(name))?.reason;
    const tried = suite.slow && SAME_EVERYWHERE.test(name) && !DIFFERS.test(name);
    const isElsewhere = /vmdk/.test(name) && backend.type !== 'dir';
    const elsewhere = isElsewhere ? 'tried on local files: it is the same wherever they lie' : undefined;
    const slow = tried ? 'tried on faster storage: it is the same for all of it' : undefined;
    const lacks = [needs.feature, needs.also].find((feature) => feature && !traits.features[feature]);
    const lacking = lacks && `it cannot ${lacks}`;
    const other = needs.trait && !needs.trait(traits) ? needs.why : undefined;
    test(name, { skip: given ?? lacking ?? other ?? elsewhere ?? slow }, async () => {
      await using directory = scratch();
      await using ground = await suite.ground(directory.path, sizeMiB);
      const definition = poolDefinitionSchema.parse({
        name: 'p',
        uuid: randomUUID(),
        type: backend.type,
        ...ground.definition,
      });
      backend.check(definition);
      assert.deepEqual(backend.traitsOf?.(definition) ?? backend.traits, traits);
      await using room = await openRoom(suite, ground, definition, join(directory.path, 'state'));
      await work(room);
    });
  };

  describe(`${suite.name} as a backend`, () => {
    it('a new pool is empty but for its units, and knows its size', {}, async ({ pool, seen, ground }) => {
      assert.deepEqual([...seen.keys()].sort(), [...(ground.units ?? [])].sort());
      const space = await pool.space();
      assert.ok(space.capacityBytes > 0 && space.availableBytes <= space.capacityBytes);
    });

    for (const format of formats) {
      it(`a volume of format ${format} is made, found, and kept`, { feature: 'create' }, async (room) => {
        const made = await room.pool.create(wanted('v', format));
        assert.equal(made.format, format);
        assert.equal(made.capacityBytes, 4 * MIB);
        assert.deepEqual(room.seen.get('v'), made);
        assert.ok((await contentOf(room.pool, 'v')).every((byte) => byte === 0));
        await room.pool.refresh();
        assert.equal(room.seen.get('v')?.id, made.id);
      });

      it(`a volume of format ${format} has the mode that was asked for`, { feature: 'create' }, async ({
        pool,
      }) => {
        const { permissions } = await pool.create({ ...wanted('v', format), permissions: { mode: 0o640 } });
        assert.equal(permissions?.mode, 0o640);
      });

      it(`a volume of format ${format} grows, and shrinks only when asked to`, { feature: 'resize' }, async ({
        pool,
      }) => {
        const { id } = await pool.create(wanted('v', format));
        if (format === 'vmdk')
          return void (await assert.rejects(pool.resize('v', 8 * MIB, false), { code: 'not-supported' }));
        const grown = await pool.resize('v', 8 * MIB, false);
        assert.equal(grown.capacityBytes, 8 * MIB);
        assert.equal(grown.id, id);
        await assert.rejects(pool.resize('v', 4 * MIB, false), { code: 'shrink-refused' });
        assert.equal((await pool.look('v')).capacityBytes, 8 * MIB);
        if (format !== 'raw' || !traits.features.shrink) return;
        const smaller = await pool.resize('v', 4 * MIB, true);
        assert.equal(smaller.capacityBytes, 4 * MIB);
        assert.equal(smaller.id, id);
      });

      it(`content goes into a volume of format ${format} and comes out again`, {
        feature: 'transfer',
      }, async ({ pool, seen }) => {
        // A size that is a multiple of nothing.
        const bytes = Buffer.concat([
          randomBytes(CHUNK_BYTES),
          Buffer.alloc(2 * CHUNK_BYTES),
          randomBytes(MIB - 24),
        ]);
        const sink = await Sink.open(await pool.stage(transfer('v', bytes.length, { format })));
        await put(sink, bytes);
        assert.equal(seen.size, 0, 'nothing is seen of it before it is committed');
        const { volume } = await sink.commit(undefined);
        assert.equal(volume.format, format);
        const content = await contentOf(pool, 'v');
        assert.ok(content.subarray(0, bytes.length).equals(bytes));
        assert.ok(content.subarray(bytes.length).every((byte) => byte === 0));
        assert.equal((await pool.stages()).length, 0);
      });

      it(`a clone of format ${format} has the same content and an id of its own`, {
        feature: 'clone',
      }, async ({ pool }) => {
        const bytes = randomBytes(MIB);
        const sink = await Sink.open(await pool.stage(transfer('v', bytes.length, { format })));
        await put(sink, bytes);
        const { volume } = await sink.commit(undefined);
        const clone = await pool.clone('v', 'w');
        assert.notEqual(clone.id, volume.id);
        assert.ok((await contentOf(pool, 'w')).subarray(0, MIB).equals(bytes));
        await assert.rejects(pool.clone('v', 'w'), { code: 'volume-exists' });
      });

      it(`a wiped volume of format ${format} is empty and the same volume`, {
        feature: 'wipe',
        also: 'transfer',
      }, async ({ pool }) => {
        const bytes = randomBytes(MIB);
        const sink = await Sink.open(await pool.stage(transfer('v', bytes.length, { format })));
        await put(sink, bytes);
        const { volume } = await sink.commit(undefined);
        const wiped = await pool.wipe('v', 'zero');
        assert.equal(wiped.id, volume.id);
        assert.equal(wiped.capacityBytes, volume.capacityBytes);
        assert.equal(wiped.compat, volume.compat);
        assert.equal(wiped.clusterBytes, volume.clusterBytes);
        assert.ok((await contentOf(pool, 'v')).every((byte) => byte === 0));
      });

      it(`a cancelled wipe of format ${format} leaves a sound volume`, {
        feature: 'wipe',
        also: 'create',
      }, async ({ pool }) => {
        await pool.create(wanted('v', format, 16 * MIB));
        const { id } = await pool.look('v');
        // Before anything is written, and in the middle.
        for (const check of [1, 3]) {
          await pool
            .wipe('v', 'random', undefined, abortedAt(check))
            .catch((error) => assert.match(error.message, /enough/));
          const after = await pool.look('v');
          assert.equal(after.id, id);
          assert.equal(after.damaged, undefined);
          await contentOf(pool, 'v');
        }
      });
    }

    it('names that are taken are refused, and what has them stays', { feature: 'create' }, async ({
      pool,
    }) => {
      const { id } = await pool.create(wanted('v', 'raw'));
      await assert.rejects(pool.create(wanted('v', 'raw', MIB)), { code: 'volume-exists' });
      await assert.rejects(pool.stage(transfer('v', MIB)), { code: 'volume-exists' });
      const there = await pool.look('v');
      assert.equal(there.id, id);
      assert.equal(there.capacityBytes, 4 * MIB);
    });

    it('of many who make one name at once one succeeds', { feature: 'create' }, async ({ pool, seen }) => {
      const results = await Promise.allSettled(
        Array.from({ length: traits.volumes === 'file' ? 8 : 3 }, () => pool.create(wanted('v', 'raw'))),
      );
      const made = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      assert.equal(made.length, 1);
      assert.equal((await pool.look('v')).id, made[0]!.id);
      assert.equal(seen.size, 1);
    });

    it('what is not there is not found, and an error is no absence', {}, async ({ pool }) => {
      for (const work of [
        () => pool.look('no'),
        () => pool.remove('no'),
        () => pool.open('no', { as: 'image' }),
        () => pool.resize('no', MIB, false),
      ])
        await assert.rejects(work(), { code: 'volume-not-found' });
    });

    it('a removed volume is gone, and a new one of its name is another', { feature: 'delete' }, async ({
      pool,
      seen,
    }) => {
      const { id, etag } = await pool.create(wanted('v', 'raw'));
      await assert.rejects(pool.remove('v', { etag: `${etag}x` }), { code: 'volume-changed' });
      await pool.remove('v', { etag });
      assert.equal(seen.size, 0);
      assert.notEqual((await pool.create(wanted('v', 'raw'))).id, id);
    });

    const withSnapshots = (format: VolumeFormat): boolean =>
      traits.rawSnapshots || !['raw', 'vmdk'].includes(format);
    for (const format of formats.filter(withSnapshots)) {
      it(`a volume of format ${format} goes back to what a snapshot kept`, { feature: 'snapshot' }, async ({
        pool,
      }) => {
        const [before, after] = [randomBytes(MIB), randomBytes(MIB)];
        const spec = transfer('v', MIB, { format });
        const sink = await Sink.open(await pool.stage(spec));
        await put(sink, before);
        const { volume } = await sink.commit(undefined);
        const id = await pool.createSnapshot('v', format === 'ploop' ? undefined : 'one');
        await assert.rejects(pool.createSnapshot('v', id), { code: 'snapshot-exists' });
        assert.ok((await pool.listSnapshots('v')).some((snapshot) => snapshot.id === id));
        assert.equal((await pool.look('v')).snapshotCount, 1);
        const overwrite = format === 'raw' ? suite.overwrite : undefined;
        if (format === 'raw') assert.ok(overwrite, 'nobody writes to it');
        await overwrite?.('v', after);
        if (overwrite) assert.ok((await contentOf(pool, 'v')).subarray(0, MIB).equals(after));
        if (traits.features.transfer?.includes('snapshot')) {
          const there = await contentOf(pool, 'v', { snapshot: id });
          assert.ok(there.subarray(0, MIB).equals(before), 'read as it was then');
          await assert.rejects(pool.open('v', { as: 'image', snapshot: id }), { code: 'not-supported' });
          const other = format === 'ploop' ? randomUUID() : 'no';
          await assert.rejects(pool.open('v', { as: 'content', snapshot: other }), {
            code: 'snapshot-not-found',
          });
        }
        const { etag } = await pool.look('v');
        await pool.switchSnapshot('v', id);
        const now = await pool.look('v');
        assert.equal(now.id, volume.id);
        if (overwrite) assert.notEqual(now.etag, etag);
        assert.ok((await contentOf(pool, 'v')).subarray(0, MIB).equals(before));
        // It stays, and works again.
        await pool.switchSnapshot('v', id);
        await assert.rejects(pool.switchSnapshot('v', format === 'ploop' ? randomUUID() : 'no'), {
          code: 'snapshot-not-found',
        });
        if (traits.features.rename?.includes('snapshot')) {
          await pool.createSnapshot('v', 'two');
          await assert.rejects(pool.renameSnapshot('v', id, 'two'), { code: 'snapshot-exists' });
          await assert.rejects(pool.renameSnapshot('v', 'no', 'three'), { code: 'snapshot-not-found' });
          await assert.rejects(pool.renameSnapshot('v', id, 'a/b'), { code: 'invalid-name' });
          await pool.renameSnapshot('v', id, 'three');
          const ids = (await pool.listSnapshots('v')).map((snapshot) => snapshot.id);
          assert.deepEqual(ids.sort(), ['three', 'two']);
          assert.ok((await contentOf(pool, 'v', { snapshot: 'three' })).subarray(0, MIB).equals(before));
          // The old id is free again.
          await pool.renameSnapshot('v', 'two', id);
          await pool.deleteSnapshot('v', id);
          await pool.renameSnapshot('v', 'three', id);
        } else await assert.rejects(pool.renameSnapshot('v', id, 'x'), { code: 'not-supported' });
        await assert.rejects(pool.remove('v'), { code: 'volume-has-snapshots' });
        await assert.rejects(pool.stage(transfer('v', MIB, { format, replace: true })), {
          code: 'volume-has-snapshots',
        });
        const reading = { as: 'content', snapshot: id } as const;
        const isRead = traits.features.transfer?.includes('snapshot');
        const opened = isRead ? await pool.open('v', reading) : undefined;
        await opened?.checkUnchanged();
        await opened?.[Symbol.asyncDispose]();
        await pool.deleteSnapshot('v', id);
        assert.equal((await pool.look('v')).snapshotCount, 0);
        if (traits.features.link?.includes('snapshot'))
          await tryClonesOfSnapshot(pool, before, after, overwrite);
        if (format !== 'ploop') {
          await pool.createSnapshot('v', id);
          await using another = isRead ? await pool.open('v', reading) : undefined;
          assert.ok(
            another === undefined || another.layout.etag !== opened?.layout.etag,
            'it is another one',
          );
        } else await pool.createSnapshot('v');
        await pool.remove('v', { deleteSnapshots: true });
        await assert.rejects(pool.look('v'), { code: 'volume-not-found' });
      });
    }

    it('what an encrypted volume holds comes out with its secret only', {
      feature: 'create',
      also: 'transfer',
      trait: ({ formats }) => formats.includes('luks'),
      why: 'none of its volumes are encrypted',
    }, async (room) => {
      const { pool } = room;
      const bytes = Buffer.concat([randomBytes(MIB), Buffer.alloc(MIB)]);
      const encryption = { format: 'luks' as const, secret: randomUUID() };
      await assert.rejects(pool.create({ ...wanted('v', 'luks'), passphrase: 'one' }), {
        code: 'invalid-argument',
      });
      await assert.rejects(pool.create({ ...wanted('v', 'raw'), encryption, passphrase: 'one' }), {
        code: 'invalid-argument',
      });
      await assert.rejects(pool.create({ ...wanted('v', 'luks'), encryption }), { code: 'secret-missing' });
      const sink = await Sink.open(
        await pool.stage(transfer('v', bytes.length, { format: 'luks', encryption })),
      );
      await put(sink, bytes);
      await assert.rejects(sink.commit(undefined), { code: 'secret-missing' });
      const { volume } = await sink.commit(undefined, 'one');
      assert.deepEqual(volume.encryption, encryption);
      assert.ok(volume.capacityBytes >= bytes.length);
      assert.ok((await contentOf(pool, 'v', { passphrase: 'one' })).subarray(0, bytes.length).equals(bytes));
      await assert.rejects(contentOf(pool, 'v', { passphrase: 'two' }), { code: 'secret-refused' });
      await assert.rejects(contentOf(pool, 'v'), { code: 'secret-missing' });
      {
        await using opened = await pool.open('v', { as: 'image' });
        const stored = Buffer.alloc(opened.sources[0]!.sizeBytes);
        await opened.sources[0]!.read(stored, 0);
        assert.equal(stored.indexOf(bytes.subarray(0, 64)), -1, 'it is not encrypted');
      }
      const grown = await pool.resize('v', volume.capacityBytes + 4 * MIB, false, 'one');
      assert.ok(grown.capacityBytes >= volume.capacityBytes + 4 * MIB);
      await pool.clone('v', 'w');
      const again = await room.reopen();
      await using _again = again;
      assert.deepEqual(again.seen.get('v')?.encryption, encryption);
      assert.deepEqual(again.seen.get('w')?.encryption, encryption);
      assert.ok(
        (await contentOf(again.pool, 'w', { passphrase: 'one' })).subarray(0, bytes.length).equals(bytes),
      );
      await assert.rejects(again.pool.wipe('v', 'zero', 'two'), { code: 'secret-refused' });
      await assert.rejects(again.pool.wipe('v', 'zero'), { code: 'secret-missing' });
      assert.ok(
        (await contentOf(again.pool, 'v', { passphrase: 'one' })).subarray(0, bytes.length).equals(bytes),
      );
      await again.pool.wipe('v', 'zero', 'one');
      assert.deepEqual((await again.pool.look('v')).encryption, encryption);
      assert.ok(
        !(await contentOf(again.pool, 'v', { passphrase: 'one' }))
          .subarray(0, MIB)
          .equals(bytes.subarray(0, MIB)),
      );
      // Inside qcow2: the same wherever the image lies.
      if (suite.slow || traits.volumes === 'network') return;
      const inside = { ...wanted('q', 'qcow2'), encryption, passphrase: 'one' };
      assert.deepEqual((await again.pool.create(inside)).encryption, encryption);
      await assert.rejects(again.pool.resize('q', 8 * MIB, false, 'two'), { code: 'secret-refused' });
      await again.pool.resize('q', 8 * MIB, false, 'one');
      assert.ok((await contentOf(again.pool, 'q', { passphrase: 'one' })).equals(Buffer.alloc(8 * MIB)));
      if (!traits.rawSnapshots)
        await assert.rejects(again.pool.createSnapshot('q'), { code: 'not-supported' });
      // Full of what takes room: also where a device has no more than it needs.
      const full = randomBytes(8 * MIB);
      const format = 'qcow2' as const;
      const dense = await Sink.open(
        await again.pool.stage(transfer('d', full.length, { format, encryption })),
      );
      await put(dense, full);
      await dense.commit(undefined, 'one');
      assert.ok((await contentOf(again.pool, 'd', { passphrase: 'one' })).equals(full));
      // Stored bytes are what they are.
      await again.pool.create(wanted('plain', 'qcow2'));
      await using opened = await again.pool.open('plain', { as: 'image' });
      const image = Buffer.alloc(opened.sources[0]!.sizeBytes);
      await opened.sources[0]!.read(image, 0);
      const stored = transfer('s', image.length, { format, encryption, representation: 'image' });
      const plain = await Sink.open(await again.pool.stage(stored));
      await put(plain, image);
      await assert.rejects(plain.commit(undefined, 'one'), { code: 'invalid-image' });
      await plain.abort();
    });

    const fill = async ({ pool }: Room, name: string, bytes: Buffer): Promise<Volume> => {
      const spec = transfer(name, bytes.length, { replace: true });
      const sink = await Sink.open(await pool.stage(spec));
      await put(sink, bytes);
      return (await sink.commit(undefined)).volume;
    };

    it('a volume in the trash is none, also after a restart, and comes back as the same volume', {
      feature: 'trash',
      also: 'transfer',
    }, async (room) => {
      const bytes = randomBytes(MIB);
      const sink = await Sink.open(await room.pool.stage(transfer('v', bytes.length)));
      await put(sink, bytes);
      const { volume } = await sink.commit(undefined);
      if (traits.features.snapshot && traits.rawSnapshots) await room.pool.createSnapshot('v', 'one');
      const { etag } = await room.pool.look('v');
      await assert.rejects(room.pool.trash('v', TRASHED, `${etag}-other`), { code: 'volume-changed' });
      await room.pool.trash('v', TRASHED, etag);
      assert.equal(room.seen.has('v'), false);
      await assert.rejects(room.pool.look('v'), { code: 'volume-not-found' });
      await using again = await room.reopen();
      assert.deepEqual([...again.seen.keys()], []);
      assert.deepEqual(await again.pool.trashed(), [TRASHED]);
      // Its name is free; what has it stays.
      const other = await again.pool.create(wanted('v', 'raw', MIB));
      await assert.rejects(again.pool.restore(TRASHED, 'v', volume), { code: 'volume-exists' });
      assert.equal((await again.pool.look('v')).id, other.id);
      assert.notEqual(other.id, volume.id);
      const restored = await again.pool.restore(TRASHED, 'back', volume);
      assert.equal(restored.id, volume.id);
      assert.ok((await contentOf(again.pool, 'back')).subarray(0, bytes.length).equals(bytes));
      if (traits.features.snapshot && traits.rawSnapshots)
        assert.deepEqual(
          (await again.pool.listSnapshots('back')).map(({ id }) => id),
          ['one'],
        );
      assert.deepEqual(await again.pool.trashed(), []);
      await assert.rejects(again.pool.restore(TRASHED, 'more', volume), { code: 'volume-not-found' });
    });

    it('what is in the trash is overwritten part by part', {
      feature: 'trash',
      also: 'transfer',
    }, async (room) => {
      const { pool } = room;
      const bytes = randomBytes(3 * MIB + 512);
      const sink = await Sink.open(await pool.stage(transfer('v', bytes.length)));
      await put(sink, bytes);
      const { volume } = await sink.commit(undefined);
      if (suite.neverOverwrites) {
        await pool.trash('v', TRASHED, volume.etag);
        return assert.rejects(pool.wipeTrashed(TRASHED, 0, 0), { code: 'not-supported' });
      }
      const snapshots = traits.features.snapshot && traits.rawSnapshots;
      if (snapshots) {
        await pool.createSnapshot('v', 'one');
        await pool.trash('v', OTHER_TRASHED, (await pool.look('v')).etag);
        await assert.rejects(pool.wipeTrashed(OTHER_TRASHED, 0, MIB), { code: 'volume-has-snapshots' });
        await pool.restore(OTHER_TRASHED, 'v', volume);
        await pool.deleteSnapshot('v', 'one');
      }
      await pool.trash('v', TRASHED, (await pool.look('v')).etag);
      await assert.rejects(pool.wipeTrashed(OTHER_TRASHED, 0, MIB), { code: 'volume-not-found' });
      const asked = await pool.wipeTrashed(TRASHED, 0, 0);
      assert.equal(asked.totalBytes, volume.capacityBytes);
      const first = await pool.wipeTrashed(TRASHED, 0, MIB);
      assert.ok(first.doneBytes >= MIB && first.doneBytes < bytes.length, `${first.doneBytes} bytes`);
      const half = await pool.restore(TRASHED, 'v', volume);
      const there = await contentOf(pool, 'v');
      assert.ok(there.subarray(0, MIB).equals(Buffer.alloc(MIB)));
      assert.ok(there.subarray(first.doneBytes, bytes.length).equals(bytes.subarray(first.doneBytes)));
      await pool.trash('v', TRASHED, half.etag);
      await using again = await room.reopen();
      let { doneBytes } = first;
      for (let parts = 0; doneBytes < asked.totalBytes; parts++) {
        assert.ok(parts < 10);
        ({ doneBytes } = await again.pool.wipeTrashed(TRASHED, doneBytes, MIB));
      }
      assert.equal(doneBytes, asked.totalBytes);
      await again.pool.restore(TRASHED, 'v', volume);
      assert.ok((await contentOf(again.pool, 'v')).equals(Buffer.alloc(volume.capacityBytes)));
      if (!traits.features.base) return;
      const base = await fill(again, 'b', bytes);
      const { etag } = await again.pool.setBase('b', true);
      await again.pool.trash('b', TRASHED, etag);
      await again.pool.wipeTrashed(TRASHED, 0, 0);
      const wiped = await again.pool.wipeTrashed(TRASHED, 0, 2 * bytes.length);
      assert.equal(wiped.doneBytes, wiped.totalBytes);
      await again.pool.restore(TRASHED, 'b', base);
      assert.ok((await contentOf(again.pool, 'b')).equals(Buffer.alloc(base.capacityBytes)));
    });

    it('what is deleted from the trash is gone, and nothing else is', { feature: 'trash' }, async ({
      pool,
      elsewhere,
    }) => {
      await pool.create(wanted('v', 'raw'));
      await pool.create(wanted('w', 'raw'));
      await pool.trash('v', TRASHED, (await pool.look('v')).etag);
      await pool.trash('w', OTHER_TRASHED, (await pool.look('w')).etag);
      if (traits.shared) {
        // The trash of one host is not another one's.
        await using other = await elsewhere();
        assert.deepEqual(await other.pool.trashed(), []);
        await other.pool.purge(TRASHED);
        // There it is something that another agent keeps.
        const strange = (await other.pool.orphans()).filter(({ what }) => /in the trash/.test(what));
        assert.equal(strange.length, 2);
        for (const { trashId } of strange) assert.equal(trashId, undefined);
      }
      const ours = (await pool.orphans()).map(({ trashId }) => trashId);
      assert.deepEqual(ours.sort(), [TRASHED, OTHER_TRASHED].sort());
      assert.deepEqual((await pool.trashed()).sort(), [TRASHED, OTHER_TRASHED].sort());
      await pool.purge(TRASHED);
      await pool.purge(TRASHED);
      assert.deepEqual(await pool.trashed(), [OTHER_TRASHED]);
    });

    it('ids outlive a restart of the agent', {
      trait: () => suite.inMemory !== true,
      why: 'it lies in the memory of its agent',
    }, async (room) => {
      const [unit = 'v'] = room.ground.units ?? [];
      const { id } = traits.features.create
        ? await room.pool.create(wanted('v', 'raw'))
        : await room.pool.look(unit);
      await using again = await room.reopen();
      assert.equal(again.seen.get(unit)?.id, id);
    });

    it('a stage is taken up again, and one that is aborted leaves nothing', { feature: 'transfer' }, async ({
      pool,
      seen,
    }) => {
      const spec = transfer('v', 2 * CHUNK_BYTES);
      const bytes = randomBytes(2 * CHUNK_BYTES);
      const first = await Sink.open(await pool.stage(spec));
      const map = new ChunkMap(spec.parts);
      const chunk = Buffer.from(bytes.subarray(0, CHUNK_BYTES));
      await first.write({
        index: 0,
        digest: await map.digestOf(chunk),
        verified: Promise.resolve(),
        data: { bytes: chunk, ranges: [{ start: 0, end: CHUNK_BYTES }] },
      });
      await assert.rejects(first.commit(undefined), { code: 'upload-offset' });
      await first.close();
      const [stage] = await pool.stages(spec.id);
      const second = await Sink.open(stage!);
      assert.ok(second.digests.has(0) && !second.digests.has(1));
      await put(second, bytes);
      await assert.rejects(second.commit('0'.repeat(64)), { code: 'digest-mismatch' });
      await second.commit(undefined);
      assert.ok((await contentOf(pool, 'v')).subarray(0, bytes.length).equals(bytes));

      const other = await Sink.open(await pool.stage(transfer('w', MIB)));
      await other.abort();
      assert.deepEqual([...seen.keys()], ['v']);
      assert.equal((await pool.stages()).length, 0);
    });

    it('an upload over a volume is a new state of that volume', { feature: 'transfer' }, async ({ pool }) => {
      const { id, etag } = await pool.create(wanted('v', 'raw', MIB));
      const bytes = randomBytes(MIB);
      const spec = transfer('v', MIB, { replace: true });
      const sink = await Sink.open(await pool.stage(spec));
      await put(sink, bytes);
      const { volume } = await sink.commit(undefined);
      assert.equal(volume.id, id);
      assert.notEqual(volume.etag, etag);
      assert.equal((await pool.committed(spec.id))?.id, id);
      await assert.rejects(pool.stage(spec), { code: 'job-state' });
    });

    it('two who publish one name: one is refused, and nothing is mixed', { feature: 'transfer' }, async ({
      pool,
    }) => {
      const [one, other] = [randomBytes(MIB), randomBytes(MIB)];
      const sinks = await Promise.all(
        [one, other].map(async (bytes) => {
          const sink = await Sink.open(await pool.stage(transfer('v', MIB)));
          await put(sink, bytes);
          return sink;
        }),
      );
      const results = await Promise.allSettled(sinks.map((sink) => sink.commit(undefined)));
      for (const sink of sinks) await sink.close();
      const won = results.findIndex(({ status }) => status === 'fulfilled');
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
      // Storage may give a volume some more room than was asked for.
      assert.ok((await contentOf(pool, 'v')).subarray(0, MIB).equals([one, other][won]!));
    });

    it('a transfer that cannot have its name is taken back whole', {
      feature: 'transfer',
      trait: () => suite.inMemory !== true,
      why: 'it lies in the memory of its agent',
    }, async (room) => {
      const sinks = await Promise.all(
        [1, 2].map(async () => {
          const sink = await Sink.open(await room.pool.stage(transfer('v', MIB)));
          await put(sink, randomBytes(MIB));
          return sink;
        }),
      );
      const [first, second] = sinks as [Sink, Sink];
      await first.commit(undefined);
      await assert.rejects(second.commit(undefined), { code: 'volume-exists' });
      await second.abort();
      assert.equal((await room.pool.stages()).length, 0);
      await room.pool.remove('v');
      await using again = await room.reopen();
      assert.equal(again.seen.size, 0, 'it does not come back as a volume');
    });

    it('looks at a name that is being given change nothing of what gets it', { feature: 'transfer' }, async ({
      pool,
    }) => {
      // Where each step takes long, one look comes in between anyway.
      const rounds = traits.volumes === 'file' && !suite.slow ? 20 : 1;
      const enough = performance.now() + 5000;
      for (let round = 0; round < rounds && (round < LEAST_ROUNDS || performance.now() < enough); round++) {
        const name = `v${round}`;
        const spec = transfer(name, 4096, { volumeId: randomUUID() });
        const sink = await Sink.open(await pool.stage(spec));
        await put(sink, randomBytes(4096));
        let committing = true;
        const looks = (suite.slow ? [1] : [1, 2, 3]).map(async () => {
          while (committing) {
            await pool.look(name).catch(() => undefined);
            await new Promise(setImmediate);
          }
        });
        const { volume } = await sink.commit(undefined);
        committing = false;
        await Promise.all(looks);
        assert.equal(volume.id, spec.volumeId);
        assert.equal((await pool.look(name)).id, spec.volumeId);
        assert.equal((await pool.committed(spec.id))?.id, spec.volumeId);
      }
    });

    it('a wipe leaves holes as holes', {
      feature: 'wipe',
      trait: ({ volumes }) => volumes === 'file',
      why: 'its volumes have no holes',
    }, async ({ pool }) => {
      for (const format of formats.filter((each) => each !== 'ploop')) {
        await pool.create(wanted(format, format, 32 * MIB));
        const before = await pool.look(format);
        const after = await pool.wipe(format, 'zero');
        assert.ok(
          after.allocationBytes <= before.allocationBytes + MIB,
          `${format}: ${after.allocationBytes}`,
        );
      }
    });

    it('agents of two hosts do each other no harm', {
      feature: 'create',
      trait: () => suite.inMemory !== true,
      why: 'nobody else can reach its storage',
    }, async (room) => {
      const sink = await Sink.open(await room.pool.stage(transfer('w', MIB)));
      const { id } = await room.pool.create(wanted('v', 'raw'));
      if (traits.target === 'exclusive' && !traits.shared) {
        await assert.rejects(room.elsewhere(), { code: 'pool-inaccessible' });
      } else {
        await using other = await room.elsewhere();
        await other.pool.create(wanted('theirs', 'raw'));
        await room.pool.create(wanted('ours', 'raw'));
        await Promise.all([room.pool.refresh(), other.pool.refresh()]);
        for (const { seen } of [room, other])
          assert.deepEqual([...seen.keys()].sort(), ['ours', 'theirs', 'v']);
        assert.equal((await other.pool.stages()).length, 0, 'what is under way is not theirs');
      }
      await put(sink, randomBytes(MIB));
      await sink.commit(undefined);
      await using again = await room.reopen();
      assert.equal(again.seen.get('v')?.id, id);
      assert.ok(again.seen.has('w'));
    });

    it('storage that is in use is not let go of, and the pool goes on', {
      feature: 'create',
    }, async (room) => {
      const { hold } = room.ground;
      assert.ok(hold, 'nothing holds it');
      const { id } = await room.pool.create(wanted('v', 'raw'));
      {
        using _held = hold('v');
        await assert.rejects(room.pool.stop());
        assert.equal((await room.pool.look('v')).id, id);
        await room.pool.create(wanted('w', 'raw'));
      }
      await room.pool.stop();
      await room.pool.start();
      assert.equal((await room.pool.look('v')).id, id);
    });

    it('a full pool refuses with no-space and goes on', { feature: 'create' }, async ({ pool, seen }) => {
      const { availableBytes } = await pool.space();
      const more = availableBytes + 256 * MIB;
      await assert.rejects(pool.create({ ...wanted('big', 'raw', more), preallocate: true }), {
        code: 'no-space',
      });
      assert.equal(seen.size, 0);
      await pool.create(wanted('v', 'raw'));
      await pool.refresh();
      assert.deepEqual([...seen.keys()], ['v']);
    });

    streamTests(it, {
      ...{ fill, overwrite: suite.overwrite },
      contentOf: ({ pool }, name, reading) => contentOf(pool, name, reading),
    });
    attributeTests(it, {
      fill,
      contentOf: ({ pool }, name) => contentOf(pool, name),
      replace: ({ pool }, name) => pool.stage(transfer(name, MIB, { replace: true })),
    });

    const onUnits = (name: string, work: (room: Room, unit: string) => Promise<void>): void =>
      it(name, { feature: 'overwrite' }, async (room) => {
        const [unit] = room.ground.units ?? [];
        assert.ok(unit, 'there is no unit');
        await work(room, unit);
      });

    onUnits(
      'content goes over a unit in place, whole, and comes out again',
      async ({ pool, ground }, unit) => {
        const { id, etag, capacityBytes } = await pool.look(unit);
        const bytes = Buffer.concat([
          randomBytes(CHUNK_BYTES),
          Buffer.alloc(CHUNK_BYTES),
          randomBytes(MIB - 24),
        ]);
        await assert.rejects(pool.stage(transfer(unit, bytes.length)), { code: 'volume-exists' });
        await assert.rejects(pool.stage(transfer('other', bytes.length, { replace: true })), {
          code: 'not-supported',
        });
        await assert.rejects(pool.stage(transfer(unit, capacityBytes + 1, { replace: true })), {
          code: 'no-space',
        });
        // A refresh promises a good copy until its end: there is no room for two.
        const refresh = transfer(unit, bytes.length, { replace: true, refresh: true });
        await assert.rejects(pool.stage(refresh), { code: 'not-supported' });
        assert.equal((await pool.look(unit)).etag, etag, 'nothing was done yet');
        const sink = await Sink.open(await pool.stage(transfer(unit, bytes.length, { replace: true })));
        assert.ok((await pool.look(unit)).damaged, 'it is on record that it is being written');
        await put(sink, bytes);
        const { volume } = await sink.commit(undefined);
        assert.equal(volume.id, id);
        assert.notEqual(volume.etag, etag);
        assert.equal(volume.damaged, undefined);
        assert.equal(volume.capacityBytes, capacityBytes);
        const whole = Buffer.concat([bytes, Buffer.alloc(capacityBytes - bytes.length)]);
        assert.ok((await contentOf(pool, unit)).equals(whole));
        const there = await ground.bytesOf?.(unit);
        if (there) assert.ok(there.equals(whole), 'its storage holds something else');
        assert.equal((await pool.stages()).length, 0);
      },
    );

    onUnits(
      'a unit into which something came by half is damaged, also after a restart, until it is whole',
      async (room, unit) => {
        const spec = transfer(unit, 2 * MIB, { replace: true });
        const sink = await Sink.open(await room.pool.stage(spec));
        await sink.close();
        await using again = await room.reopen();
        assert.ok((await again.pool.look(unit)).damaged);
        const [stage] = await again.pool.stages(spec.id);
        const second = await Sink.open(stage!);
        await second.abort();
        assert.ok((await again.pool.look(unit)).damaged);
        await assert.rejects(again.pool.open(unit, { as: 'content' }), { code: 'volume-damaged' });
        const third = await Sink.open(await again.pool.stage(transfer(unit, MIB, { replace: true })));
        await put(third, randomBytes(MIB));
        await third.commit(undefined);
        assert.equal((await again.pool.look(unit)).damaged, undefined);
      },
    );

    onUnits('a unit is wiped, and is the same unit', async ({ pool, ground }, unit) => {
      const sink = await Sink.open(await pool.stage(transfer(unit, MIB, { replace: true })));
      await put(sink, randomBytes(MIB));
      const { volume } = await sink.commit(undefined);
      const wiped = await pool.wipe(unit, 'zero');
      assert.equal(wiped.id, volume.id);
      assert.notEqual(wiped.etag, volume.etag);
      const there = (await ground.bytesOf?.(unit)) ?? (await contentOf(pool, unit));
      assert.ok(there.every((byte) => byte === 0));
    });

    const outside = 'nobody else can work on its storage';
    it('what others make, change, rename and remove is seen, and ids stay with their volumes', {}, async (room) => {
      const { outside: hands } = room.ground;
      assert.ok(hands, outside);
      await hands.make('a', randomBytes(MIB));
      await room.pool.refresh();
      const { id, etag } = room.seen.get('a')!;
      await hands.change('a');
      await room.pool.refresh();
      assert.equal(room.seen.get('a')?.id, id);
      assert.notEqual(room.seen.get('a')?.etag, etag);
      await hands.rename('a', 'b');
      await room.pool.refresh();
      assert.deepEqual([...room.seen.keys()], ['b']);
      assert.equal(room.seen.get('b')?.id, id);
      await hands.remove('b');
      await room.pool.refresh();
      assert.equal(room.seen.size, 0);
    });

    it('a volume that changes while it is read is not taken for one state', {}, async (room) => {
      const { outside: hands } = room.ground;
      assert.ok(hands, outside);
      await hands.make('a', randomBytes(MIB));
      await using opened = await room.pool.open('a', { as: 'image' });
      await hands.change('a');
      // A CIFS server tells a client that holds a file open of what others wrote a moment later.
      const deadline = Date.now() + 5_000;
      while (await isUnchanged(opened)) {
        assert.ok(Date.now() < deadline, 'the change is never seen');
        await setTimeout(50);
      }
    });

    it('storage that is away is no empty pool, and is the same when it is back', {}, async (room) => {
      const { away, back } = room.ground;
      assert.ok(away && back);
      const [unit = 'v'] = room.ground.units ?? [];
      const { id } = traits.features.create
        ? await room.pool.create(wanted('v', 'raw'))
        : await room.pool.look(unit);
      const told = room.changes.length;
      await away();
      await assert.rejects(room.pool.refresh());
      await assert.rejects(room.pool.space());
      await assert.rejects(
        room.pool.look(unit),
        (error: { code?: string }) => error.code !== 'volume-not-found',
      );
      assert.equal(room.changes.length, told, 'nothing is told to be gone');
      await back();
      await room.pool.start();
      assert.equal((await room.pool.look(unit)).id, id);
    });

    it('a look where nothing changed tells nothing', {}, async ({ pool, changes }) => {
      if (traits.features.create) for (const name of ['a', 'b', 'c']) await pool.create(wanted(name, 'raw'));
      const told = changes.length;
      await Promise.all([pool.refresh(), pool.refresh(), pool.refresh()]);
      assert.deepEqual(changes.slice(told), []);
    });

    test('every skip names a test', () => {
      for (const { tests } of suite.skip ?? []) for (const name of tests) assert.ok(names.has(name), name);
    });
  });
}
