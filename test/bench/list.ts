import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execute, TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

// Against a libvirtd that was started by hand with a pool `bench` on STOWAGE_BENCH_POOL; without one, ours alone.
const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
await using room = scratch();
await using controller = await TestController.start(join(room.path, 'data'), []);
const pool = process.env.STOWAGE_BENCH_POOL ?? join(room.path, 'pool');
if (!existsSync(pool)) mkdirSync(pool);
for (let index = 0; index < 1000; index++) {
  const path = join(pool, `v${String(index).padStart(4, '0')}`);
  if (!existsSync(path)) await execute('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1G']);
}
await controller.cliOk('pool', 'create', 'local/bench', '--type', 'dir', '--target', pool);
await compare(
  'refresh a pool of 1000 qcow2 volumes and list them with details',
  [
    {
      name: 'stowage, by its API',
      run: () =>
        seconds(async () => {
          await controller.api('/hosts/local/pools/bench/refresh', {});
          const rows = await controller.api<unknown[]>('/volumes?pool=bench&limit=1000');
          if (rows.length !== 1000) throw new Error(`${rows.length} volumes`);
        }),
    },
    ...(process.env.STOWAGE_BENCH_POOL
      ? [
          {
            name: 'virsh refresh, list --details',
            run: () =>
              seconds(async () => {
                for (const args of [
                  ['pool-refresh', 'bench'],
                  ['vol-list', 'bench', '--details'],
                ]) {
                  const { status, stderr } = await execute('virsh', [
                    '-q',
                    '-c',
                    'storage:///system',
                    ...args,
                  ]);
                  if (status !== 0) throw new Error(stderr);
                }
              }),
          },
        ]
      : []),
  ],
  ROUNDS,
);
