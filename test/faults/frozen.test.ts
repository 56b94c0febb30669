import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostServices } from '../../agent/backends/backend.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { FilePool } from '../../agent/volumes/files/file-pool.ts';
import type { NewVolume } from '../../shared/conf/volume.ts';
import { VOLUME_ID_HEADER } from '../../shared/protocol/agent.ts';
import { TestAgent } from '../support/agent.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const ROUNDS = Number(process.env.STOWAGE_FREEZE_ROUNDS ?? 24);
const wanted = (name: string): NewVolume => ({ name, capacityBytes: MIB, format: 'raw', preallocate: false });

/** The agent of one host, which freezes once right before it gives a volume its name or takes it away. */
class FreezingHost {
  readonly pool: OpenPool;
  #freeze: { reached: () => void; woken: Promise<void> } | undefined;

  private constructor(pool: OpenPool) {
    this.pool = pool;
  }

  /** Hosts that have one directory, by a server. */
  static async pair(room: { path: string }): Promise<[FreezingHost, FreezingHost]> {
    const path = join(room.path, 'pool');
    mkdirSync(path);
    const open = async (agentId: string): Promise<FreezingHost> => {
      const state = join(room.path, agentId);
      mkdirSync(state);
      const services: HostServices = {
        agentId,
        stateDirectory: async () => state,
        imageDirectories: () => [],
        secret: () => '',
        ownsStorage: true,
        alone: async (work) => {
          await host.#reach();
          return work();
        },
      };
      const storage = {
        ...{ path, local: false, knownBy: 'inode' as const },
        build: async () => undefined,
        attach: async () => false,
        detach: async () => undefined,
        remove: async () => undefined,
      };
      const host: FreezingHost = new FreezingHost(new OpenPool(new FilePool(storage, services)));
      await host.pool.start();
      return host;
    };
    return [await open('one'), await open('two')];
  }

  async #reach(): Promise<void> {
    const freeze = this.#freeze;
    this.#freeze = undefined;
    freeze?.reached();
    await freeze?.woken;
  }

  /** Begins `work` and lets it freeze; meanwhile another host does `other`. Then it wakes, and gives what became of it. */
  async frozenWhile(work: () => Promise<unknown>, other: () => Promise<unknown>): Promise<string> {
    const reached = Promise.withResolvers<void>();
    const woken = Promise.withResolvers<void>();
    this.#freeze = { reached: reached.resolve, woken: woken.promise };
    const result = work().then(
      () => 'done',
      (error: { code: string }) => error.code,
    );
    await Promise.race([reached.promise, result]);
    await other();
    woken.resolve();
    return result;
  }
}

const told = (path: string): string => readFileSync(path, 'latin1').slice(0, 3);

describe('a host that freezes in the middle of a change, and wakes when another has taken over', () => {
  const inPair = (
    name: string,
    work: (one: FreezingHost, two: FreezingHost, pool: string) => Promise<void>,
  ) =>
    test(name, async () => {
      await using room = scratch();
      const [one, two] = await FreezingHost.pair(room);
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
    (two: FreezingHost, pool: string, name = 'v') =>
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

  test("what a killed agent had taken by a name that was another's by then is kept", async () => {
    await using room = scratch();
    const [one, two] = await FreezingHost.pair(room);
    await one.pool.create(wanted('v'));
    await one.pool.stop();
    const place = join(room.path, 'pool/.stowage/hosts/one/trash');
    writeFileSync(join(place, `taken-1:2-${randomUUID()}`), 'another');
    await one.pool.start();
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
      for (let round = 0; round < ROUNDS; round++) {
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
