import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FilePool } from '../../agent/volumes/files/file-pool.ts';
import type { NewVolume } from '../../shared/conf/volume.ts';
import { transferSpecSchema, VOLUME_ID_HEADER } from '../../shared/protocol/agent.ts';
import { TestAgent } from '../support/agent.ts';
import { FreezingHost } from '../support/freezing.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const ROUNDS = Number(process.env.STOWAGE_FREEZE_ROUNDS ?? 24);
const wanted = (name: string): NewVolume => ({ name, capacityBytes: MIB, format: 'raw', preallocate: false });

type Host = FreezingHost<FilePool>;

/** Hosts that have one directory, by a server. */
async function pair(room: { path: string }): Promise<[Host, Host]> {
  const path = join(room.path, 'pool');
  mkdirSync(path);
  const storage = {
    ...{ path, local: false, knownBy: 'inode' as const },
    build: async () => undefined,
    attach: async () => false,
    detach: async () => undefined,
    remove: async () => undefined,
  };
  const start = (agentId: string): Promise<Host> =>
    FreezingHost.start(room.path, agentId, (services) => new FilePool(storage, services));
  return [await start('one'), await start('two')];
}

const told = (path: string): string => readFileSync(path, 'latin1').slice(0, 3);

describe('a host that freezes in the middle of a change, and wakes when another has taken over', () => {
  const inPair = (name: string, work: (one: Host, two: Host, pool: string) => Promise<void>) =>
    test(name, async () => {
      await using room = scratch();
      const [one, two] = await pair(room);
      try {
        await work(one, two, join(room.path, 'pool'));
        // Nothing was left aside.
        for (const agent of ['one', 'two'])
          for (const place of ['new', 'trash', 'kept'])
            assert.deepEqual(readdirSync(join(room.path, 'pool/.stowage/hosts', agent, place)), [], place);
      } finally {
        await one.pool.stop();
        await two.pool.stop();
      }
    });

  /** Frees a volume, and makes another of its name that holds other bytes. */
  const replaced =
    (two: Host, pool: string, name = 'v') =>
    async (): Promise<void> => {
      await two.pool.refresh();
      await two.pool.remove(name);
      await two.pool.create(wanted(name));
      writeFileSync(join(pool, name), 'new', { flag: 'r+' });
    };

  inPair('alloc: a name that is taken by then is let be', async (one, two, pool) => {
    const code = await one.frozenWhile(
      () => one.pool.create(wanted('v')),
      async () => {
        await two.pool.create(wanted('v'));
        writeFileSync(join(pool, 'v'), 'new', { flag: 'r+' });
      },
    );
    assert.equal(code, 'volume-exists');
    assert.equal(told(join(pool, 'v')), 'new');
  });

  inPair('free: another volume of the name stays', async (one, two, pool) => {
    await one.pool.create(wanted('v'));
    assert.equal(await one.frozenWhile(() => one.pool.remove('v'), replaced(two, pool)), 'volume-changed');
    assert.equal(told(join(pool, 'v')), 'new');
  });

  inPair('into the trash: another volume of the name stays', async (one, two, pool) => {
    const { etag } = await one.pool.create(wanted('v'));
    assert.equal(
      await one.frozenWhile(() => one.pool.trash('v', '0123456789ab', etag), replaced(two, pool)),
      'volume-changed',
    );
    assert.equal(told(join(pool, 'v')), 'new');
  });

  inPair('rename: another volume of the name keeps it', async (one, two, pool) => {
    await one.pool.create(wanted('v'));
    assert.equal(
      await one.frozenWhile(() => one.pool.rename('v', 'w'), replaced(two, pool)),
      'volume-changed',
    );
    assert.equal(told(join(pool, 'v')), 'new');
    assert.ok(!readdirSync(pool).includes('w'));
  });

  inPair(
    'clone: nothing stands on a base that is gone, or on another of its name',
    async (one, two, pool) => {
      for (const other of [
        async () => {
          await two.pool.refresh();
          await two.pool.remove('v');
        },
        replaced(two, pool),
      ]) {
        await one.pool.create(wanted('v')).catch(() => undefined);
        await one.pool.refresh();
        await one.pool.setBase('v', true);
        assert.equal(await one.frozenWhile(() => one.pool.cloneLinked('v', 'c'), other), 'volume-changed');
        assert.ok(!readdirSync(pool).includes('c'));
      }
    },
  );

  inPair('free of a base: it stays when a clone of it was made meanwhile', async (one, two, pool) => {
    await one.pool.create(wanted('v'));
    await one.pool.setBase('v', true);
    const code = await one.frozenWhile(
      () => one.pool.remove('v'),
      async () => {
        await two.pool.refresh();
        await two.pool.cloneLinked('v', 'c');
      },
    );
    assert.equal(code, 'volume-has-clones');
    assert.deepEqual(
      readdirSync(pool)
        .filter((name) => !name.startsWith('.'))
        .sort(),
      ['c', 'v'],
    );
    assert.ok((await one.pool.look('v')).isBase);
    assert.equal((await one.pool.look('c')).backingStore?.path, 'v');
  });

  inPair('a name that was given back is that of the same volume', async (one, two, pool) => {
    await one.pool.create(wanted('v'));
    await one.frozenWhile(() => one.pool.remove('v'), replaced(two, pool));
    await one.pool.refresh();
    await two.pool.refresh();
    assert.equal((await one.pool.look('v')).id, (await two.pool.look('v')).id);
    await one.pool.remove('v');
    await assert.rejects(two.pool.look('v'), { code: 'volume-not-found' });
  });

  inPair(
    'a base goes into the trash, or gets another name: not when a clone of it was made meanwhile',
    async (one, two, pool) => {
      const { etag } = await one.pool.create(wanted('v'));
      await one.pool.setBase('v', true);
      const clone = async (): Promise<void> => {
        await two.pool.refresh();
        await two.pool.cloneLinked('v', 'c');
      };
      for (const work of [() => one.pool.trash('v', '0123456789ab', etag), () => one.pool.rename('v', 'w')]) {
        assert.equal(await one.frozenWhile(work, clone), 'volume-has-clones');
        assert.ok((await one.pool.look('v')).isBase);
        assert.deepEqual(
          readdirSync(pool)
            .filter((name) => !name.startsWith('.'))
            .sort(),
          ['c', 'v'],
        );
        await two.pool.remove('c');
        await one.pool.refresh();
      }
    },
  );

  test('upload over a volume: another one of the name stays', async () => {
    await using room = scratch();
    const [one, two] = await pair(room);
    const pool = join(room.path, 'pool');
    await one.pool.create(wanted('v'));
    const stage = await one.pool.stage(
      transferSpecSchema.parse({
        ...{
          id: randomUUID(),
          pool: 'p',
          volume: 'v',
          format: 'raw',
          representation: 'image',
          replace: true,
        },
        parts: [{ name: '', sizeBytes: MIB, dense: false }],
      }),
    );
    await stage.seal('{}', undefined);
    assert.equal(await one.frozenWhile(() => stage.publish(), replaced(two, pool)), 'volume-changed');
    assert.equal(told(join(pool, 'v')), 'new');
    await stage.drop();
    await one.pool.stop();
    await two.pool.stop();
  });

  inPair('clone: none stands on what is no base any more', async (one, two, pool) => {
    await one.pool.create(wanted('v'));
    await one.pool.setBase('v', true);
    const undo = async (): Promise<void> => {
      await two.pool.refresh();
      await two.pool.setBase('v', false);
    };
    assert.equal(await one.frozenWhile(() => one.pool.cloneLinked('v', 'c'), undo), 'volume-changed');
    assert.ok(!readdirSync(pool).includes('c'));
  });

  inPair('wipe, growth, a new base: another volume of the name is let be', async (one, two, pool) => {
    for (const format of ['raw', 'qcow2'] as const) {
      const name = `v-${format}`;
      await one.pool.create({ ...wanted(name), format });
      const found = (await one.driver.look(name))!;
      await two.pool.refresh();
      await two.pool.remove(name);
      await two.pool.create({ ...wanted(name), format });
      const before = readFileSync(join(pool, name));
      for (const late of [
        () => one.driver.wipe(found, 'random', async () => undefined),
        () => one.driver.resize(found, 8 * MIB, false),
        () => one.driver.setBase(found, true),
      ])
        await assert.rejects(late(), { code: 'volume-changed' });
      assert.ok(readFileSync(join(pool, name)).equals(before));
    }
    await one.pool.refresh();
  });

  test('what was taken from its name when its agent was killed has it again, unless another has it', async () => {
    await using room = scratch();
    const [one, two] = await pair(room);
    const place = join(room.path, 'pool/.stowage/hosts/one/trash');
    const take = async (): Promise<void> => {
      await one.pool.stop();
      const taken = join(place, `taken-${randomUUID()}`);
      mkdirSync(taken);
      writeFileSync(join(taken, 'place'), 'v');
      renameSync(join(room.path, 'pool/v'), join(taken, 'object'));
    };
    const { id } = await one.pool.create(wanted('v'));
    await take();
    await one.pool.start();
    assert.equal((await one.pool.look('v')).id, id);
    assert.deepEqual(readdirSync(place), []);
    await take();
    await two.pool.create(wanted('v'));
    await one.pool.start();
    assert.notEqual((await one.pool.look('v')).id, id);
    assert.equal(readdirSync(place).length, 1);
    assert.match((await one.pool.orphans()).map(({ what }) => what).join(), /was being deleted/);
    await one.pool.stop();
    await two.pool.stop();
  });

  test('real agents, stopped by a signal at any moment of a free', {
    skip: !isRoot && 'only root mounts one directory twice',
  }, async () => {
    await using room = scratch();
    const disk = join(room.path, 'disk');
    mkdirSync(disk);
    const agents: TestAgent[] = [];
    const mounted: string[] = [];
    const volumes = '/pools/p/volumes';
    const name = 'vm-100-disk-0.raw';
    const path = join(disk, 'images/100', name);
    const outcomes = new Map<number, number>();
    try {
      for (const host of ['one', 'two']) {
        const target = join(room.path, `${host}-mounted`);
        mkdirSync(target);
        execFileSync('mount', ['--bind', disk, target]);
        mounted.push(target);
        const agent = await TestAgent.start(join(room.path, host));
        agents.push(agent);
        const definition = {
          name: 'p',
          type: 'proxmox',
          source: { format: 'nfs' },
          target: { path: target },
        };
        await agent.ok('POST', '/pools', definition);
        await agent.ok('POST', '/pools/p/start');
      }
      const [one, two] = agents as [TestAgent, TestAgent];
      const signal = (kind: 'SIGSTOP' | 'SIGCONT'): boolean => process.kill(one.pid, kind);
      // Each a little later than the one before: on a busy machine it takes longer until one is done in time.
      const isEnough = (round: number) => round >= ROUNDS && (outcomes.size > 1 || round >= 10 * ROUNDS);
      for (let round = 0; !isEnough(round); round++) {
        const { id } = await two.ok<{ id: string }>('POST', volumes, { name, capacityBytes: MIB });
        // As a controller asks: for this volume, and no other of its name.
        const freed = one.call('DELETE', `${volumes}/${name}`, undefined, { [VOLUME_ID_HEADER]: id });
        await sleep((round * 12) / ROUNDS);
        signal('SIGSTOP');
        const gone = await two.call('DELETE', `${volumes}/${name}`);
        assert.ok(gone.status === 200 || gone.status === 404, JSON.stringify(gone));
        // What was taken under this name comes back, or goes for good, only once its host is awake.
        const made = await two.call<{ code?: string }>('POST', volumes, { name, capacityBytes: MIB });
        if (made.status === 200) writeFileSync(path, 'new', { flag: 'r+' });
        signal('SIGCONT');
        const { status } = await freed;
        outcomes.set(status, (outcomes.get(status) ?? 0) + 1);
        assert.equal(made.status, 200, JSON.stringify(made));
        assert.equal(told(path), 'new', `round ${round}: the new volume is there, status ${status}`);
        await two.ok('DELETE', `${volumes}/${name}`);
      }
      assert.ok(outcomes.size > 1, `every free ended alike: ${JSON.stringify([...outcomes])}`);
    } finally {
      for (const agent of agents) await agent[Symbol.asyncDispose]();
      for (const target of mounted) execFileSync('umount', ['-l', target]);
    }
  });
});
