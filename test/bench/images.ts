import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Image } from '../../shared/protocol/api.ts';
import { TestController } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { compare, seconds } from './pairs.ts';

const ROUNDS = Number(process.env.STOWAGE_BENCH_ROUNDS ?? 21);
const MANY = Number(process.env.STOWAGE_BENCH_IMAGES ?? 100_000);
const GIB = 2 ** 30;
await using room = scratch();
await using controller = await TestController.start(join(room.path, 'data'), []);
const [few, many] = [join(room.path, 'few'), join(room.path, 'many')];
for (const path of [few, many]) mkdirSync(path);
for (let index = 0; index < MANY; index++) {
  const file = openSync(join(many, `vm-${100 + Math.floor(index / 4)}-disk-${index % 4}.raw`), 'w');
  ftruncateSync(file, 1 << 20);
  closeSync(file);
}
await controller.cliOk('pool', 'create', 'local/few', '--type', 'dir', '--target', few);
await controller.cliOk('pool', 'create', 'local/many', '--type', 'dir', '--target', many);
const images = (query: string): Promise<Image[]> => controller.api<Image[]>(`/images?${query}`);
const known = async (): Promise<number> =>
  (await controller.api<{ count: number }>('/volume-rows?count=true&limit=1&pool=many')).count;
// What is still being taken in makes the rest slower.
while ((await known()) < MANY) await new Promise((resolve) => setTimeout(resolve, 500));
await new Promise((resolve) => setTimeout(resolve, 5000));

const at = '/hosts/local/pools/few/images';
await controller.api<Image>(at, { vmid: 900, name: 'vm-900-disk-0.raw', sizeBytes: GIB });
await controller.cliOk('image', 'base', 'local/few/vm-900-disk-0.raw');
const clone = async (): Promise<void> =>
  void (await controller.api<Image>(`${at}/base-900-disk-0.raw/clone`, { vmid: 901 }));
/** qemu-img, and what makes its file durable. */
const tool = (...args: string[]) => ({
  name: 'qemu-img create, sync',
  async run() {
    const path = join(few, '.theirs');
    const took = await seconds(async () => {
      execFileSync('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        ...args.slice(0, -1),
        path,
        ...args.slice(-1),
      ]);
      execFileSync('sync', [path, few]);
    });
    rmSync(path);
    return took;
  },
});
await compare(
  'a new qcow2 image for a guest, durable',
  [
    {
      name: 'stowage image alloc, API',
      run: () => seconds(() => controller.api(at, { vmid: 902, sizeBytes: GIB, format: 'qcow2' })),
    },
    tool('1G'),
  ],
  ROUNDS,
);
await compare(
  'a linked clone of a base, durable',
  [
    { name: 'stowage image clone, API', run: () => seconds(clone) },
    tool('-F', 'raw', '-b', join(few, 'base-900-disk-0.raw'), '1G'),
  ],
  ROUNDS,
);
await compare(
  `the images of one guest among ${MANY}, a page of 1000, and a look at the directory`,
  [
    { name: 'stowage, of a guest', run: () => seconds(() => images('vmid=20100')) },
    { name: 'stowage, a page of 1000', run: () => seconds(() => images('limit=1000')) },
    {
      name: 'ls -l',
      run: () => seconds(async () => void execFileSync('ls', ['-l', many], { stdio: 'ignore' })),
    },
  ],
  7,
);
