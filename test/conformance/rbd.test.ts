import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { rbdBackend } from '../../agent/backends/rbd/index.ts';
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
      cluster ??= startCeph(room.path);
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
}
