import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { diskBackend } from '../../agent/backends/disk/index.ts';
import { isRoot } from '../support/scratch.ts';
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
