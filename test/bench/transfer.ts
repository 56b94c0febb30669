import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { execute } from '../support/controller.ts';
import { Libvirtd } from '../support/libvirt.ts';
import { MigrationRoom, makeImage } from '../support/migration.ts';
import { compare, seconds } from './pairs.ts';

// Upload and download of 1 GiB through the controller, to a host reached by SSH, against virsh over SSH to that host.
const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 7);
const SIZE_MIB = 1024;

await using room = await MigrationRoom.open();
const { controller, sink: host, sinkPool } = room;
await using libvirtd = await Libvirtd.start(join(room.path, 'libvirt'));
await libvirtd.pool('bench', sinkPool);

const image = join(room.path, 'image');
const copy = join(room.path, 'copy');
await makeImage(image, SIZE_MIB);
const data = `/hosts/${host.name}/pools/p/volumes/ours/data`;

async function curl(...args: string[]): Promise<void> {
  const header = ['-H', `authorization: Bearer ${controller.token}`];
  const { status, stderr } = await execute('curl', ['-sSf', ...header, ...args]);
  if (status !== 0) throw new Error(stderr);
}
const dropped = async (name: string): Promise<void> => {
  await controller.api(`/hosts/${host.name}/pools/p/refresh`, {});
  await controller.api(`/hosts/${host.name}/pools/p/volumes/${name}`, undefined, 'DELETE');
};

await compare(
  'upload 1 GiB random, durable',
  [
    {
      name: 'stowage vol upload',
      async run() {
        const took = await seconds(() => controller.cliOk('vol', 'upload', image, `${host.name}/p/ours`));
        await dropped('ours');
        return took;
      },
    },
    {
      name: 'curl -T, to our API',
      async run() {
        const took = await seconds(() => curl('-T', image, `${controller.url}/api/v1${data}?format=raw`));
        await dropped('ours');
        return took;
      },
    },
    {
      name: 'virsh vol-upload, sync',
      async run() {
        await libvirtd.virsh('vol-create-as', 'bench', 'theirs', `${SIZE_MIB}M`);
        const took = await seconds(async () => {
          await libvirtd.virshOver(host, 'vol-upload', 'theirs', image, '--pool', 'bench');
          execFileSync('sync', [join(sinkPool, 'theirs')]);
        });
        await libvirtd.virsh('vol-delete', 'theirs', '--pool', 'bench');
        return took;
      },
    },
  ],
  ROUNDS,
);

await controller.cliOk('vol', 'upload', image, `${host.name}/p/ours`);
await libvirtd.virsh('pool-refresh', 'bench');
/** A download, durable at the end. */
const download = (name: string, get: () => Promise<unknown>) => ({
  name,
  async run() {
    rmSync(copy, { force: true });
    return await seconds(async () => {
      await get();
      execFileSync('sync', [copy]);
    });
  },
});
await compare(
  'download 1 GiB random, durable',
  [
    download('stowage vol download', () => controller.cliOk('vol', 'download', `${host.name}/p/ours`, copy)),
    download('curl, from our API', () => curl('-o', copy, `${controller.url}/api/v1${data}`)),
    download('virsh vol-download, sync', () =>
      libvirtd.virshOver(host, 'vol-download', 'ours', copy, '--pool', 'bench'),
    ),
  ],
  ROUNDS,
);
