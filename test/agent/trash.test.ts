import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { dirBackend } from '../../agent/backends/dir/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { Trash } from '../../agent/pools/trash.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { scratch } from '../support/scratch.ts';

async function openPool(path: string) {
  const definition = poolDefinitionSchema.parse({
    name: 'p',
    uuid: randomUUID(),
    type: 'dir',
    target: { path: join(path, 'pool') },
  });
  mkdirSync(join(path, 'pool'), { recursive: true });
  const state = join(path, 'state');
  mkdirSync(state, { recursive: true });
  const host = {
    agentId: 'agent',
    stateDirectory: async () => state,
    imageDirectories: () => [],
    secret: () => '',
    ownsStorage: true,
    alone: <T>(work: () => Promise<T>) => work(),
  };
  const pool = new OpenPool(dirBackend.open(definition, host));
  await pool.start();
  return { pool, file: join(state, 'trash.log'), [Symbol.asyncDispose]: () => pool.stop() };
}

const volume = (name: string) => ({
  name,
  capacityBytes: 1 << 20,
  format: 'raw' as const,
  preallocate: false,
});
/** An empty directory lies in the place of the pool, as of an unmounted disk, until this is disposed of. */
function unmounted(path: string): Disposable {
  const pool = join(path, 'pool');
  const aside = join(path, 'aside');
  renameSync(pool, aside);
  mkdirSync(pool);
  return {
    [Symbol.dispose]() {
      rmdirSync(pool);
      renameSync(aside, pool);
    },
  };
}

const week = { keepUntil: Date.now() + 7 * 86_400_000, by: 'ann' };

test('a volume comes back with its id, under its name, also after a restart', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  const { id } = await pool.create(volume('v'));
  {
    await using trash = await Trash.open(file);
    const trashed = await trash.add(pool, 'v', week);
    assert.equal(trashed.by, 'ann');
    assert.equal(trash.sizes.volumeCount, 1);
    await assert.rejects(trash.add(pool, 'v', week), { code: 'volume-not-found' });
  }
  await using trash = await Trash.open(file);
  const [only] = await trash.list(pool);
  assert.equal(only?.volume.id, id);
  assert.equal((await trash.restore(pool, only!.id)).id, id);
  assert.deepEqual(await trash.list(pool), []);
  await assert.rejects(trash.restore(pool, only!.id), { code: 'volume-not-found' });
});

test('a kill before or after the volume goes leaves the volume, in its place or in the trash', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  // Killed after the record: the promise of the pool never settles.
  const never = Promise.withResolvers<void>();
  const cut = Object.assign(Object.create(pool), {
    look: (name: string) => pool.look(name),
    trashed: () => pool.trashed(),
    trash: () => never.promise,
  });
  {
    const trash = await Trash.open(file);
    void trash.add(cut, 'v', week).catch(() => undefined);
    while (trash.sizes.volumeCount === 0) await new Promise((resolve) => setImmediate(resolve));
    await trash[Symbol.asyncDispose]();
  }
  await using trash = await Trash.open(file);
  assert.deepEqual(await trash.list(pool), [], 'a record of nothing is no volume in the trash');
  assert.equal((await pool.look('v')).name, 'v');
  // Killed after the volume went, before anybody heard of it.
  const late = Object.assign(Object.create(cut), {
    async trash(name: string, id: string, etag: string) {
      await pool.trash(name, id, etag);
      throw new Error('killed');
    },
  });
  await assert.rejects(trash.add(late, 'v', week), /killed/);
  const [only] = await trash.list(pool);
  assert.equal(only?.volume.name, 'v');
  // Killed after it was restored, before its record went.
  await pool.restore(only!.id, 'v', only!.volume);
  assert.deepEqual(await trash.list(pool), []);
});

test('records stay while other storage, or none, is in the place of the pool, and while a volume comes in', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  await pool.create(volume('w'));
  await using trash = await Trash.open(file);
  const { id } = await trash.add(pool, 'v', week);
  {
    using _away = unmounted(room.path);
    await assert.rejects(trash.list(pool), { code: 'pool-inaccessible' }, 'an error, and no empty trash');
  }
  // Other storage of the same kind.
  const other = Object.assign(Object.create(pool), { trashed: async () => [] });
  assert.deepEqual(await trash.list(other), []);
  assert.equal((await trash.list(pool))[0]?.id, id);
  // A look that began before a volume came is late.
  const late = Promise.withResolvers<string[]>();
  const slow = Object.assign(Object.create(pool), { trashed: () => late.promise });
  const listing = trash.list(slow);
  const second = await trash.add(pool, 'w', week);
  late.resolve([id]);
  assert.deepEqual((await listing).map((each) => each.id).sort(), [id, second.id].sort());
  assert.equal((await trash.list(pool)).length, 2);
});

test('after a kill between the two names of a restore there are no two volumes of one file', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  await using trash = await Trash.open(file);
  /** As a kill leaves it: the file has its name, which is on record for it, and the one in the trash still. */
  const killed = async (): Promise<{ id: string; kept: string }> => {
    const { id, volume: was } = await trash.add(pool, 'v', week);
    const kept = join(room.path, 'pool/.stowage/kept', id);
    await pool.restore(id, 'v', was);
    linkSync(join(room.path, 'pool/v'), kept);
    return { id, kept };
  };
  const other = await killed();
  await assert.rejects(trash.restore(pool, other.id, 'w'), { code: 'volume-exists' });
  assert.ok(!existsSync(join(room.path, 'pool/w')) && !existsSync(other.kept));
  assert.deepEqual(await trash.list(pool), []);
  // With the same name the restore is finished.
  const same = await killed();
  assert.equal((await trash.restore(pool, same.id)).name, 'v');
  assert.ok(!existsSync(same.kept));
});

test('a volume in the trash that somebody has linked elsewhere comes back', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  const { id: volumeId } = await pool.create(volume('v'));
  linkSync(join(room.path, 'pool/v'), join(room.path, 'pool/link'));
  await pool.refresh();
  await using trash = await Trash.open(file);
  const { id } = await trash.add(pool, 'v', week);
  assert.equal((await trash.restore(pool, id, 'back')).id, volumeId);
});

test('nothing is deleted from the trash while the storage is away', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  await using trash = await Trash.open(file);
  const { id } = await trash.add(pool, 'v', week);
  {
    using _away = unmounted(room.path);
    await assert.rejects(trash.purge(pool, id), { code: 'pool-inaccessible' });
  }
  assert.equal((await trash.list(pool)).length, 1);
});

test('storage that cannot tell what is in the trash makes no record go', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  await using trash = await Trash.open(file);
  await trash.add(pool, 'v', week);
  const away = Object.assign(Object.create(pool), {
    trashed: () => Promise.reject(Object.assign(new Error('away'), { code: 'EIO' })),
  });
  await assert.rejects(trash.list(away), /away/);
  assert.equal(trash.sizes.volumeCount, 1);
  assert.equal((await trash.list(pool)).length, 1);
});

test('two who want the same out of the trash: one is refused', async () => {
  await using room = scratch();
  await using opened = await openPool(room.path);
  const { pool, file } = opened;
  await pool.create(volume('v'));
  await using trash = await Trash.open(file);
  const { id } = await trash.add(pool, 'v', week);
  const results = await Promise.allSettled([
    trash.restore(pool, id),
    trash.purge(pool, id),
    trash.restore(pool, id),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'rejected'],
  );
  assert.equal((await pool.look('v')).name, 'v');
});

test('a pool with something in its trash is not deleted', async () => {
  await using room = scratch();
  const { pool, file } = await openPool(room.path);
  await pool.create(volume('v'));
  await using trash = await Trash.open(file);
  const { id } = await trash.add(pool, 'v', week);
  await pool.stop();
  await assert.rejects(pool.delete(), { code: 'pool-not-empty' });
  assert.ok(existsSync(join(room.path, 'pool')));
  await pool.start();
  await trash.purge(pool, id);
  assert.deepEqual(readdirSync(join(room.path, 'pool/.stowage/kept')), []);
  await pool.stop();
  await pool.delete();
  rmSync(join(room.path, 'pool'), { recursive: true, force: true });
});
