import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend } from '../../agent/backends/backend.ts';
import { logicalBackend } from '../../agent/backends/logical/index.ts';
import { rbdBackend } from '../../agent/backends/rbd/index.ts';
import { zfsBackend } from '../../agent/backends/zfs/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { type PoolDefinition, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { inTestHost, nodeInTestHost, runInTestHost } from '../hosts/guest.ts';
import { startCeph } from '../support/ceph.ts';
import { scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

/**
 * A new volume and a linked clone, by the agent's pools and by the tool of the storage: Ceph on this machine; thin LVM and OpenZFS in test
 * hosts, whose emulated processor is some ten times as slow. `STOWAGE_BENCH_STORAGE=rbd,lvm,zfs` chooses.
 */
const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 15);
const STORAGE = (process.env.STOWAGE_BENCH_STORAGE ?? 'rbd,lvm,zfs').split(',');
const GIB = 2 ** 30;

interface Storage {
  name: string;
  backend: Backend;
  definition: Partial<PoolDefinition> & Pick<PoolDefinition, 'source'>;
  run(...command: string[]): void;
  /** Commands of the tool, for a name of a new volume, and a base that is there. */
  create(name: string): string[];
  clone(base: string, name: string): string[];
}

async function bench({ name, backend, definition, run, create, clone }: Storage): Promise<void> {
  await using room = scratch();
  mkdirSync(join(room.path, 'state'));
  const whole = poolDefinitionSchema.parse({
    ...{ name: 'p', uuid: randomUUID(), type: backend.type, target: { path: '/dev' } },
    ...definition,
  });
  const services = {
    ...{ agentId: randomUUID(), ownsStorage: true, secret: () => '', imageDirectories: () => [] },
    stateDirectory: async () => join(room.path, 'state'),
    alone: <T>(work: () => Promise<T>) => work(),
  };
  const pool = new OpenPool(backend.open(whole, services));
  await pool.start();
  await pool.create({ name: 'base', capacityBytes: GIB, format: 'raw', preallocate: false });
  await pool.setBase('base', true);
  let made = 0;
  const next = (): string => `vm-100-disk-${made++}`;
  const byTool = (command: (volume: string) => string[]) => ({
    name: command('').slice(0, 2).join(' '),
    run: () => seconds(async () => run(...command(next()))),
  });
  await compare(
    `${name}: a new volume of 1 GiB`,
    [
      {
        name: 'stowage',
        run: () =>
          seconds(() => pool.create({ name: next(), capacityBytes: GIB, format: 'raw', preallocate: false })),
      },
      byTool(create),
    ],
    ROUNDS,
  );
  await compare(
    `${name}: a linked clone of a base`,
    [
      { name: 'stowage', run: () => seconds(() => pool.cloneLinked('base', next())) },
      byTool((volume) => clone('base', volume)),
    ],
    ROUNDS,
  );
  await pool.stop();
}

const tool = (command: string, ...args: string[]): void =>
  void execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });

async function benchCeph(): Promise<void> {
  await using cluster = await startCeph();
  const { monitor, keyring, run } = cluster;
  await bench({
    name: 'Ceph',
    backend: rbdBackend,
    definition: {
      source: { hosts: [monitor], devices: [], name: 'rbd' },
      configOptions: [{ name: 'keyring', value: keyring }],
    },
    run: (_rbd, ...args) => void run('rbd', ...args),
    create: (name) => ['rbd', 'create', '--size', '1G', `rbd/${name}`],
    clone: (base, name) => ['rbd', 'clone', `rbd/${base}@__base__`, `rbd/${name}`],
  });
}

async function benchLvm(): Promise<void> {
  tool('vgcreate', '--yes', 'vg0', '/dev/vdb');
  tool('lvcreate', '--yes', '--type', 'thin-pool', '--size', '400M', '--name', 'thin', 'vg0');
  await bench({
    name: 'thin LVM',
    backend: logicalBackend,
    definition: { source: { hosts: [], devices: [], name: 'vg0/thin' } },
    run: tool as Storage['run'],
    create: (name) => [
      'lvcreate',
      '--yes',
      '--virtualsize',
      '1G',
      '--name',
      name,
      '--thinpool',
      'thin',
      'vg0',
    ],
    clone: (base, name) => [
      'lvcreate',
      '--yes',
      '--snapshot',
      '--setactivationskip',
      'n',
      '--name',
      name,
      `vg0/${base}`,
    ],
  });
}

async function benchZfs(): Promise<void> {
  tool('zpool', 'create', 'tank', '/dev/vdb');
  await bench({
    name: 'OpenZFS',
    backend: zfsBackend,
    definition: { source: { hosts: [], devices: [], name: 'tank' } },
    run: tool as Storage['run'],
    create: (name) => ['zfs', 'create', '-s', '-V', '1G', `tank/${name}`],
    clone: (base, name) => ['zfs', 'clone', `tank/${base}@__base__`, `tank/${name}`],
  });
}

async function inHost(storage: 'lvm' | 'zfs'): Promise<void> {
  await using room = scratch();
  const script = nodeInTestHost(import.meta.url, {
    STOWAGE_BENCH_STORAGE: storage,
    STOWAGE_BENCH_ROUNDS: String(ROUNDS),
  });
  const { status, output } = await runInTestHost(room.path, script, {
    disksMiB: [512],
    zfs: storage === 'zfs',
  });
  console.log(output);
  if (status !== 0) throw new Error(`the test host for ${storage} failed`);
}

for (const storage of STORAGE)
  if (storage === 'rbd') await benchCeph();
  else if (storage === 'lvm') await (inTestHost ? benchLvm() : inHost(storage));
  else if (storage === 'zfs') await (inTestHost ? benchZfs() : inHost(storage));
  else throw new Error(`there is no storage '${storage}' here: rbd, lvm, zfs`);
