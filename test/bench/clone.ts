import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { JobDetails } from '../../shared/protocol/api.ts';
import { TestController } from '../support/controller.ts';
import { Libvirtd } from '../support/libvirt.ts';
import { makeImage } from '../support/migration.ts';
import { mountFileSystem, scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
await using room = scratch();
const mounts: AsyncDisposable[] = [];
try {
  for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
    mkdirSync(join(room.path, type));
    mounts.push(mountFileSystem(type, 2048, join(room.path, type)));
  }
  await using controller = await TestController.start(join(room.path, 'data'), []);
  await using libvirtd = await Libvirtd.start(join(room.path, 'libvirt'));
  for (const type of ['ext4', 'xfs', 'btrfs']) {
    const pool = join(room.path, type, 'pool');
    await controller.cliOk('pool', 'create', `local/${type}`, '--type', 'dir', '--target', pool);
    await makeImage(join(pool, 'image'), 4096, 256);
    await controller.api(`/hosts/local/pools/${type}/refresh`, {});
    await libvirtd.pool(type, pool);
    await compare(
      `clone 4 GiB holding 256 MiB on ${type}, durable`,
      [
        {
          name: 'stowage clone',
          async run() {
            const took = await seconds(async () => {
              const job = await controller.api<JobDetails>(`/hosts/local/pools/${type}/volumes/image/clone`, {
                name: 'copy',
              });
              await controller.ended(job.id);
            });
            await controller.api(`/hosts/local/pools/${type}/volumes/copy`, undefined, 'DELETE');
            return took;
          },
        },
        {
          name: 'cp --sparse=auto, sync',
          async run() {
            const copy = join(pool, '.copy');
            const took = await seconds(async () => {
              execFileSync('cp', ['--sparse=auto', join(pool, 'image'), copy]);
              execFileSync('sync', [copy]);
            });
            rmSync(copy);
            return took;
          },
        },
        {
          name: 'virsh vol-clone, sync',
          async run() {
            const took = await seconds(async () => {
              await libvirtd.virsh('vol-clone', 'image', 'theirs', '--pool', type);
              execFileSync('sync', [join(pool, 'theirs')]);
            });
            await libvirtd.virsh('vol-delete', 'theirs', '--pool', type);
            return took;
          },
        },
      ],
      ROUNDS,
    );
  }
} finally {
  for (const mount of mounts.reverse()) await mount[Symbol.asyncDispose]();
}
