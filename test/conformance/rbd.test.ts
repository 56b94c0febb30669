import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { rbdBackend } from '../../agent/backends/rbd/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import type { MakingStorage } from '../../agent/volumes/blocks/device-storage.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import type { NewVolume } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { type CephCluster, startCeph } from '../support/ceph.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { runBackendSuite } from './suite.ts';

if (isRoot) {
  const room = scratch();
  let cluster: Promise<CephCluster> | undefined;
  let grounds = 0;
  after(async () => {
    await (await cluster)?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** As a client does that has an image open: what it writes it tells of once a second. */
  const write = async (name: string, bytes: Buffer): Promise<void> => {
    const { run } = await cluster!;
    const image = `rbd/ground-${grounds}/${name}`;
    const file = join(room.path, 'bytes');
    writeFileSync(file, bytes);
    rmSync(`${file}.diff`, { force: true });
    await setTimeout(1_100);
    run('rbd', 'import', file, `${image}.new`);
    run('rbd', 'export-diff', `${image}.new`, `${file}.diff`);
    run('rbd', 'import-diff', `${file}.diff`, image);
    run('rbd', 'rm', `${image}.new`);
  };

  runBackendSuite({
    name: 'rbd with Ceph',
    backend: rbdBackend,
    skip: [
      {
        tests: ['raw', 'qcow2'].map(
          (format) => `a volume of format ${format} has the mode that was asked for`,
        ),
        reason: 'an image of Ceph has no mode',
      },
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a client is let go of whoever else has an image open',
      },
    ],
    overwrite: (name, bytes) => write(name, bytes),
    async ground() {
      cluster ??= startCeph();
      const { run, monitor, keyring, freeze, thaw } = await cluster;
      // A namespace for each test: making a pool takes seconds.
      const namespace = `ground-${++grounds}`;
      run('rbd', 'namespace', 'create', '--pool', 'rbd', '--namespace', namespace);
      const image = (name: string): string => `rbd/${namespace}/${name}`;
      return {
        definition: {
          source: { hosts: [monitor], name: `rbd/${namespace}` },
          configOptions: Object.entries({
            keyring,
            rados_mon_op_timeout: '3',
            rados_osd_op_timeout: '3',
          }).map(([name, value]) => ({ name, value })),
        },
        outside: {
          make(name, bytes) {
            const file = join(room.path, 'made');
            writeFileSync(file, bytes);
            run('rbd', 'import', file, image(name));
          },
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => void run('rbd', 'rename', image(from), image(to)),
          remove: (name) => void run('rbd', 'rm', image(name)),
        },
        away: freeze,
        back: thaw,
        async [Symbol.asyncDispose]() {},
      };
    },
  });
  describe('what only Ceph does', () => {
    const made = (name: string): NewVolume => ({
      name,
      capacityBytes: 8 << 20,
      format: 'raw',
      preallocate: false,
    });

    /** A pool of a new namespace, or of another pool of the cluster. */
    const open = async (
      name?: string,
      agentId = 'agent',
    ): Promise<AsyncDisposable & { pool: OpenPool; at: string; storage: MakingStorage }> => {
      cluster ??= startCeph();
      const { run, monitor, keyring } = await cluster;
      const at = name ?? `rbd/own-${++grounds}`;
      if (name === undefined) run('rbd', 'namespace', 'create', at);
      const state = join(room.path, `state-${++grounds}`);
      mkdirSync(state);
      const definition = poolDefinitionSchema.parse({
        name: 'p',
        uuid: randomUUID(),
        type: 'rbd',
        source: { hosts: [monitor], name: at },
        configOptions: [{ name: 'keyring', value: keyring }],
      });
      rbdBackend.check(definition);
      const host = {
        agentId,
        stateDirectory: async () => state,
        imageDirectories: () => [],
        secret: () => '',
        ownsStorage: true,
        alone: <T>(work: () => Promise<T>) => work(),
      };
      const driver = rbdBackend.open(definition, host);
      const pool = new OpenPool(driver);
      await pool.start();
      const { storage } = driver as unknown as { storage: MakingStorage };
      return { pool, at, storage, [Symbol.asyncDispose]: () => pool.stop().catch(() => pool.close()) };
    };

    test('a host that freezes right before a change, and wakes when another volume has the name, lets that be', async () => {
      await using one = await open();
      await using two = await open(one.at, 'another');
      /** Right before the storage is asked for a change another host does something. */
      const frozenAt = (method: 'rename' | 'cloneLinked', other: () => Promise<unknown>): void => {
        const { storage } = one;
        const original = storage[method]!.bind(storage) as (...args: unknown[]) => Promise<void>;
        Object.assign(storage, {
          [method]: async (...args: unknown[]) => {
            Object.assign(storage, { [method]: original });
            await other();
            return original(...args);
          },
        });
      };
      const replaced = async (): Promise<void> => {
        await two.pool.refresh();
        if ((await two.pool.look('v')).isBase) await two.pool.setBase('v', false);
        await two.pool.remove('v');
        await two.pool.create(made('v'));
      };
      const changed = { code: 'volume-changed' };
      const { etag } = await one.pool.create(made('v'));
      frozenAt('rename', replaced);
      await assert.rejects(one.pool.trash('v', '0123456789ab', etag), changed);
      assert.deepEqual(await one.pool.trashed(), []);
      await one.pool.refresh();
      frozenAt('rename', replaced);
      await assert.rejects(one.pool.rename('v', 'w'), changed);
      await assert.rejects(two.pool.look('w'), { code: 'volume-not-found' });
      await one.pool.refresh();
      await one.pool.setBase('v', true);
      for (const asBase of [false, true]) {
        frozenAt('cloneLinked', async () => {
          await replaced();
          if (asBase) await two.pool.setBase('v', true);
        });
        // Of what is no base Ceph itself makes no clone.
        await assert.rejects(one.pool.cloneLinked('v', 'c'), asBase ? changed : { code: 'volume-not-found' });
        await assert.rejects(two.pool.look('c'), { code: 'volume-not-found' });
        await one.pool.refresh();
        await one.pool.setBase('v', true);
      }
      assert.equal((await one.pool.look('v')).id, (await two.pool.look('v')).id);
      await one.pool.setBase('v', false);
      await one.pool.remove('v');
      assert.deepEqual(await one.pool.orphans(), []);
    });

    test('a pool and a namespace that are deleted are away, not empty', async () => {
      cluster ??= startCeph();
      const { run } = await cluster;
      run('ceph', 'osd', 'pool', 'create', 'other', '8');
      run('rbd', 'pool', 'init', 'other');
      for (const [name, remove] of [
        ['other', () => run('ceph', 'osd', 'pool', 'rm', 'other', 'other', '--yes-i-really-really-mean-it')],
        [undefined, (at: string) => run('rbd', 'namespace', 'rm', at)],
      ] as const) {
        await using room = await open(name);
        const volumes: string[] = [];
        room.pool.on('change', ({ gone }) => volumes.push(...gone.map((each) => each.name)));
        if (name !== undefined) await room.pool.create(made('v'));
        remove(room.at);
        for (const work of [
          () => room.pool.look('v'),
          () => room.pool.space(),
          () => room.pool.refresh(),
          () => room.pool.start(),
        ])
          await assert.rejects(work(), { code: 'pool-inaccessible' });
        assert.deepEqual(volumes, [], 'nothing is told to be gone');
      }
    });

    test('the key of a user may be given instead of a keyring, and a wrong one is refused', async () => {
      cluster ??= startCeph();
      const { monitor, keyring } = await cluster;
      const [, key = ''] = /\[client\.admin\]\s+key = (\S+)/.exec(readFileSync(keyring, 'utf8')) ?? [];
      const definition = poolDefinitionSchema.parse({
        name: 'p',
        uuid: randomUUID(),
        type: 'rbd',
        source: {
          hosts: [monitor],
          name: 'rbd',
          auth: { type: 'ceph', username: 'admin', secret: { usage: 'cluster' } },
        },
      });
      rbdBackend.check(definition);
      const state = join(room.path, `state-${++grounds}`);
      mkdirSync(state);
      const openWith = (secret: () => string): OpenPool =>
        new OpenPool(
          rbdBackend.open(definition, {
            agentId: 'agent',
            stateDirectory: async () => state,
            imageDirectories: () => [],
            secret,
            ownsStorage: true,
            alone: <T>(work: () => Promise<T>) => work(),
          }),
        );
      const wrong = openWith(() => Buffer.alloc(28, 1).toString('base64'));
      await assert.rejects(wrong.start(), (error: Error) => !error.message.includes('AQEB'));
      const missing = openWith(() => {
        throw new StowageError('secret-missing', 'not given');
      });
      await assert.rejects(missing.start(), { code: 'secret-missing' });
      const pool = openWith(() => key);
      await pool.start();
      assert.ok((await pool.space()).capacityBytes > 0);
      await pool.stop();
    });

    test('an image whose header is gone is damaged, not absent', async () => {
      await using room = await open();
      const { run } = await cluster!;
      const { pool, at } = room;
      await pool.create(made('hurt'));
      await pool.create(made('sound'));
      const { id } = JSON.parse(run('rbd', 'info', '--format', 'json', `${at}/hurt`));
      run('rados', '--pool', 'rbd', '--namespace', at.split('/')[1]!, 'rm', `rbd_header.${id}`);
      assert.ok((await pool.look('hurt')).damaged);
      await pool.refresh();
      assert.equal((await pool.look('sound')).damaged, undefined);
      await assert.rejects(pool.create(made('hurt')), { code: 'volume-exists' });
    });

    test('what one host reads another one does not remove, nor what others were cloned of', async () => {
      await using room = await open();
      await using other = await open(room.at, 'another');
      const { run } = await cluster!;
      await room.pool.create(made('v'));
      {
        await using _reading = await room.pool.open('v', { as: 'content' });
        await assert.rejects(other.pool.remove('v'), { code: 'volume-in-use' });
      }
      await room.pool.createSnapshot('v', 'base');
      run('rbd', 'snap', 'create', `${room.at}/v@another`);
      run('rbd', 'clone', '--rbd-default-clone-format', '2', `${room.at}/v@base`, `${room.at}/clone`);
      await assert.rejects(room.pool.remove('v', { deleteSnapshots: true }), {
        code: 'volume-has-snapshots',
      });
      assert.equal((await room.pool.listSnapshots('v')).length, 2, 'none of them went');
    });

    test('a stop while a volume is read ends the reading, and nothing else', async () => {
      const room = await open();
      await room.pool.create(made('v'));
      const opened = await room.pool.open('v', { as: 'content' });
      const bytes = Buffer.alloc(1 << 20);
      const reads = Array.from({ length: 20 }, () =>
        opened.sources[0]!.read(bytes, 0).catch((error) => error.code),
      );
      await room.pool.stop();
      for (const outcome of await Promise.all(reads))
        assert.ok(outcome === undefined || outcome === 'pool-inactive');
      await assert.rejects(async () => opened.sources[0]!.read(bytes, 0), { code: 'pool-inactive' });
    });

    test('looks at everything beside many changes, and hundreds of looks at once', async () => {
      await using room = await open();
      const { pool } = room;
      let changing = true;
      const looking = (async () => {
        while (changing) await pool.refresh();
      })();
      await Promise.all(
        [0, 1, 2, 3].map(async (each) => {
          for (let round = 0; round < 5; round++) {
            await pool.create(made(`v${each}`));
            await pool.remove(`v${each}`);
          }
        }),
      );
      changing = false;
      await looking;
      await pool.create(made('v'));
      await Promise.all(Array.from({ length: 300 }, () => pool.look('v')));
    });

    test('options that could harm the host, and waits without an end, are refused', () => {
      const check = (name: string, value: string): void =>
        rbdBackend.check(
          poolDefinitionSchema.parse({
            name: 'p',
            uuid: randomUUID(),
            type: 'rbd',
            source: { hosts: [], name: 'rbd' },
            configOptions: [{ name, value }],
          }),
        );
      check('rbd_cache', 'false');
      check('client_mount_timeout', '10');
      for (const name of [
        'log_file',
        ' log_file',
        'admin_socket',
        'rbd_plugins',
        'rbd_persistent_cache_path',
        'mon_host',
      ])
        assert.throws(() => check(name, '/tmp/x'), { code: 'not-supported' });
      for (const value of ['0', '-1', '1e9', 'long'])
        assert.throws(() => check('rados_osd_op_timeout', value), { code: 'invalid-argument' });
    });
  });
}
