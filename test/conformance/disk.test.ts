import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { diskBackend } from '../../agent/backends/disk/index.ts';
import { OpenPool } from '../../agent/pools/open-pool.ts';
import { type PoolDefinition, poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { isRoot, scratch } from '../support/scratch.ts';
import { runBackendSuite } from './suite.ts';

const run = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });

if (isRoot)
  runBackendSuite({
    name: 'disk with GPT on a loop device',
    backend: diskBackend,
    skip: [
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a disk stays where it is, whoever uses it',
      },
    ],
    ground(path, sizeMiB) {
      const file = join(path, 'disk');
      writeFileSync(file, '');
      truncateSync(file, (sizeMiB + 64) << 20);
      const disk = run('losetup', '--find', '--show', '--partscan', file).trim();
      run('parted', '--script', disk, 'mklabel', 'gpt');
      const numberOf = (name: string): string => {
        const { partitiontable } = JSON.parse(run('sfdisk', '--json', disk));
        const found = partitiontable.partitions.find((each: { name: string }) => each.name === name);
        return /\d+$/.exec(found.node)![0];
      };
      const write = (name: string, bytes: Buffer): void => {
        const fd = openSync(`${disk}p${numberOf(name)}`, 'r+');
        writeSync(fd, bytes);
        fsyncSync(fd);
        closeSync(fd);
      };
      let id = '';
      return {
        definition: { source: { devices: [{ path: disk }], format: 'gpt' }, target: { path: '/dev' } },
        outside: {
          make(name, bytes) {
            run('parted', '--script', disk, 'mkpart', name, '4MiB', '8MiB');
            write(name, bytes);
          },
          change: (name) => write(name, Buffer.alloc(4096, 1)),
          rename: (from, to) => void run('parted', '--script', disk, 'name', numberOf(from), to),
          remove: (name) => void run('parted', '--script', disk, 'rm', numberOf(name)),
        },
        // Another disk in its place.
        away() {
          id = JSON.parse(run('sfdisk', '--json', disk)).partitiontable.id;
          run(
            'sfdisk',
            '--no-reread',
            '--no-tell-kernel',
            '--disk-id',
            disk,
            '11111111-1111-1111-1111-111111111111',
          );
        },
        back: () => void run('sfdisk', '--no-reread', '--no-tell-kernel', '--disk-id', disk, id),
        async [Symbol.asyncDispose]() {
          run('losetup', '--detach', disk);
        },
      };
    },
  });

if (isRoot) {
  const directory = scratch();
  after(() => directory[Symbol.asyncDispose]());
  runBackendSuite({
    name: 'disk with a master boot record on a loop device',
    backend: diskBackend,
    traits: diskBackend.traitsOf?.(definitionOf('/dev/none')),
    skip: [
      {
        tests: ['storage that is in use is not let go of, and the pool goes on'],
        reason: 'a disk stays where it is, whoever uses it',
      },
      {
        tests: ['what others make, change, rename and remove is seen, and ids stay with their volumes'],
        reason: 'tried below: partitions have no names',
      },
      {
        tests: ['a volume that changes while it is read is not taken for one state'],
        reason: 'tried with GPT: the nodes are the same',
      },
    ],
    ground(path) {
      const { disk, units } = mbrDisk(path);
      const setId = (id: string): void =>
        void run('sfdisk', '--no-reread', '--no-tell-kernel', '--disk-id', disk, id);
      return {
        definition: { source: { devices: [{ path: disk }], format: 'dos' }, target: { path: '/dev' } },
        units,
        away: () => setId('0x11111111'),
        back: () => setId('0x4711abcd'),
        async [Symbol.asyncDispose]() {
          run('losetup', '--detach', disk);
        },
      };
    },
  });

  test('logical partitions stay what they are when one before them goes; the extended one is no volume', async () => {
    const { disk } = mbrDisk(directory.path);
    try {
      const definition = definitionOf(disk);
      const pool = new OpenPool(
        diskBackend.open(definition, {
          ...{ agentId: 'agent', ownsStorage: true },
          stateDirectory: async () => directory.path,
          imageDirectories: () => [],
          secret: () => '',
          alone: <T>(work: () => Promise<T>) => work(),
        }),
      );
      const shown = new Set<string>();
      pool.on('change', ({ volumes, gone }) => {
        for (const { name } of gone) shown.delete(name);
        for (const { name } of volumes) shown.add(name);
      });
      await pool.start();
      const node = disk.slice('/dev/'.length);
      const names = async (): Promise<string[]> => {
        await pool.refresh();
        return [...shown].sort();
      };
      assert.deepEqual(await names(), [`${node}p1`, `${node}p5`, `${node}p6`]);
      const { id } = await pool.look(`${node}p6`);
      run('parted', '--script', disk, 'rm', '5');
      assert.deepEqual(await names(), [`${node}p1`, `${node}p5`]);
      assert.equal((await pool.look(`${node}p5`)).id, id);
      await pool.stop();
    } finally {
      run('losetup', '--detach', disk);
    }
  });
}

function definitionOf(disk: string): PoolDefinition {
  return poolDefinitionSchema.parse({
    ...{ name: 'p', uuid: randomUUID(), type: 'disk', target: { path: '/dev' } },
    source: { devices: [{ path: disk }], format: 'dos' },
  });
}

/** A loop device with one primary and two logical partitions. */
function mbrDisk(path: string): { disk: string; units: string[] } {
  const file = join(path, 'mbr');
  writeFileSync(file, '');
  truncateSync(file, 128 << 20);
  const disk = run('losetup', '--find', '--show', '--partscan', file).trim();
  run('parted', '--script', disk, 'mklabel', 'msdos');
  for (const [type, start, end] of [
    ['primary', '1MiB', '33MiB'],
    ['extended', '33MiB', '127MiB'],
    ['logical', '34MiB', '66MiB'],
    ['logical', '67MiB', '99MiB'],
  ] as const)
    run('parted', '--script', disk, 'mkpart', type, start, end);
  run('sfdisk', '--no-reread', '--no-tell-kernel', '--disk-id', disk, '0x4711abcd');
  const node = disk.slice('/dev/'.length);
  return { disk, units: [`${node}p1`, `${node}p5`, `${node}p6`] };
}
