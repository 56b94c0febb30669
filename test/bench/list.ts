import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execute, TestController } from '../support/controller.ts';
import { Libvirtd } from '../support/libvirt.ts';
import { scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
await using room = scratch();
await using controller = await TestController.start(join(room.path, 'data'), [], {}, true);
await using libvirtd = await Libvirtd.start(join(room.path, 'libvirt'));
const pool = join(room.path, 'pool');
mkdirSync(pool);
for (let index = 0; index < 1000; index++) {
  const path = join(pool, `v${String(index).padStart(4, '0')}`);
  await execute('qemu-img', ['create', '-q', '-f', 'qcow2', path, '1G']);
}
await controller.cliOk('pool', 'create', 'local/bench', '--type', 'dir', '--target', pool);
await libvirtd.pool('bench', pool);

const installed = join(controller.directory, 'bin/stowage');
const environment = { ...process.env, STOWAGE_URL: controller.url, STOWAGE_TOKEN: controller.token };
const refresh = (): Promise<unknown> => controller.api('/hosts/local/pools/bench/refresh', {});
const list = async (): Promise<void> => {
  const rows = await controller.api<unknown[]>('/volumes?pool=bench&limit=1000');
  if (rows.length !== 1000) throw new Error(`${rows.length} volumes`);
};
await compare(
  'refresh a pool of 1000 qcow2 volumes and list them with details',
  [
    {
      name: 'stowage, by its API',
      run: () =>
        seconds(async () => {
          await refresh();
          await list();
        }),
    },
    {
      name: 'virsh refresh, list --details',
      run: () =>
        seconds(async () => {
          await libvirtd.virsh('pool-refresh', 'bench');
          await libvirtd.virsh('vol-list', 'bench', '--details');
        }),
    },
  ],
  ROUNDS,
);
await compare(
  'list 1000 qcow2 volumes with details, as the command line does',
  [
    {
      name: 'stowage vol list, installed',
      run: () => seconds(() => execute(installed, ['vol', 'list', 'local/bench'], environment)),
    },
    { name: 'stowage vol list', run: () => seconds(() => controller.cliOk('vol', 'list', 'local/bench')) },
    {
      name: 'virsh vol-list --details',
      run: () => seconds(() => libvirtd.virsh('vol-list', 'bench', '--details')),
    },
  ],
  ROUNDS,
);
