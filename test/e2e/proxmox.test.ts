import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetPool, Image } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

/** Bytes as a guest may write them to its raw disk: the header of an image that stands on a file of the host. */
const EVIL = (directory: string): Buffer => {
  const path = join(directory, 'evil');
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-b',
    '/etc/passwd',
    '-F',
    'raw',
    path,
    '1M',
  ]);
  return readFileSync(path);
};

describe('a node of Proxmox VE', () => {
  const room = scratch();
  const guests = join(room.path, 'guests');
  const store = join(room.path, 'vmstore');
  const configuration = join(guests, 'etc/pve/storage.cfg');
  let controller: TestController;

  const storages = (more = ''): string => `dir: local
\tdisable

dir: vmstore
\tpath ${store}
\tcontent images,iso,backup,snippets
\tprune-backups keep-all=1

dir: other
\tpath ${room.path}/other
\tcontent images,iso
\tcontent-dirs images=disks,iso=media/cd

dir: cluster
\tpath ${room.path}/cluster
\tshared 1

dir: elsewhere
\tpath ${room.path}/elsewhere
\tnodes not-this-node

dir: unmounted
\tpath ${room.path}/unmounted
\tis_mountpoint 1

pbs: backup
\tserver pbs.example.org
${more}`;

  const pools = (): Promise<FleetPool[]> => controller.api<FleetPool[]>('/pools?host=local');
  const pool = async (name: string): Promise<FleetPool | undefined> =>
    (await pools()).find((each) => each.name === name);
  const images = (query: string): Promise<Image[]> => controller.api<Image[]>(`/images?host=local&${query}`);
  const pvesm = (...args: string[]): Promise<string> => controller.cliOk('pvesm', ...args);
  const backing = (path: string): string =>
    (
      JSON.parse(execFileSync('qemu-img', ['info', '-U', '--output=json', path], { encoding: 'utf8' })) as {
        'backing-filename': string;
      }
    )['backing-filename'];
  const make = (...args: string[]): void => void execFileSync('qemu-img', ['create', '-q', ...args]);

  before(async () => {
    for (const directory of [
      join(guests, 'etc/pve/priv/lock'),
      join(guests, 'var/lock/pve-manager'),
      ...['images/100', 'images/101', 'images/9000', 'template/iso', 'dump', 'snippets'].map((at) =>
        join(store, at),
      ),
      ...['other', 'cluster', 'unmounted'].map((name) => join(room.path, name)),
    ])
      mkdirSync(directory, { recursive: true });
    // As Proxmox VE makes them.
    make('-f', 'qcow2', join(store, 'images/100/vm-100-disk-0.qcow2'), '4M');
    make('-f', 'raw', join(store, 'images/100/data.raw'), '1M');
    make('-f', 'qcow2', join(store, 'images/9000/base-9000-disk-0.qcow2'), '4M');
    chmodSync(join(store, 'images/9000/base-9000-disk-0.qcow2'), 0o444);
    const clone = join(store, 'images/101/vm-101-disk-0.qcow2');
    make('-u', '-f', 'qcow2', '-b', '../9000/base-9000-disk-0.qcow2', '-F', 'qcow2', clone, '4M');
    writeFileSync(join(store, 'images/100/vm-100-disk-1.raw'), EVIL(room.path));
    writeFileSync(join(store, 'template/iso/debian.iso'), 'an image of a CD');
    writeFileSync(join(store, 'dump/vzdump-qemu-100-2026_11_01-02_00_00.vma.zst'), 'a backup');
    writeFileSync(join(store, 'snippets/user.yaml'), '#cloud-config\n');
    writeFileSync(configuration, storages());
    controller = await TestController.start(join(room.path, 'data'), [], { STOWAGE_GUESTS_ROOT: guests });
    await until('the storages are pools', async () => (await pool('vmstore'))?.state === 'running');
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('its storages are pools that nobody defined, and those of other nodes are not', async () => {
    const found = (await pools()).filter(({ managedBy }) => managedBy === 'proxmox');
    assert.deepEqual(
      found.map(({ name, type, state }) => [name, type, state]),
      [
        ['cluster', 'proxmox', 'running'],
        ['other', 'proxmox', 'running'],
        ['unmounted', 'proxmox', 'inaccessible'],
        ['vmstore', 'proxmox', 'running'],
      ],
    );
    assert.match(found.find(({ name }) => name === 'unmounted')!.reason!, /nothing is mounted/);
    assert.match(await controller.cliOk('pool', 'show', 'local/vmstore'), /managed by\s+Proxmox VE/);
    assert.match(
      (await controller.cli('host', 'doctor', 'local')).stdout,
      /storage 'backup' of Proxmox VE\s.*no pool here: .*pbs/,
    );
    assert.match(await pvesm('status'), /vmstore\s+dir\s+active/);
  });

  test('what is in them is listed by its volume ids, with what a clone of Proxmox VE stands on', async () => {
    assert.deepEqual((await images('pool=vmstore')).map(({ volid }) => volid).sort(), [
      'vmstore:100/data.raw',
      'vmstore:100/vm-100-disk-0.qcow2',
      'vmstore:100/vm-100-disk-1.raw',
      'vmstore:9000/base-9000-disk-0.qcow2',
      'vmstore:9000/base-9000-disk-0.qcow2/101/vm-101-disk-0.qcow2',
      'vmstore:backup/vzdump-qemu-100-2026_11_01-02_00_00.vma.zst',
      'vmstore:iso/debian.iso',
      'vmstore:snippets/user.yaml',
    ]);
    assert.equal((await pvesm('path', 'vmstore:100/data.raw')).trim(), join(store, 'images/100/data.raw'));
    assert.equal(
      (await pvesm('path', 'vmstore:snippets/user.yaml')).trim(),
      join(store, 'snippets/user.yaml'),
    );
    await controller.cliRefused(
      'volume-has-clones',
      'image',
      'free',
      'local/vmstore/base-9000-disk-0.qcow2',
      '--yes',
    );
  });

  test('of a storage that is not there nothing is told, and what is no image of ours is none', async () => {
    const { status, stderr } = await controller.cli('pvesm', 'list', 'unmounted');
    assert.equal(status, 255);
    assert.match(stderr, /storage 'unmounted' is not available: nothing is mounted/);
    assert.match(
      (await controller.cli('pvesm', 'free', 'unmounted:100/vm-100-disk-0.raw')).stderr,
      /not available/,
    );
    make('-f', 'vmdk', join(store, 'images/100/vm-100-disk-5.vmdk'), '4M');
    // Whose an image is the directory says.
    make('-f', 'raw', join(store, 'images/100/vm-101-disk-9.raw'), '4M');
    await controller.cliOk('pool', 'refresh', 'local/vmstore');
    const ofGuest = async (vmid: string): Promise<boolean> =>
      (await pvesm('list', 'vmstore', '--vmid', vmid)).includes('vmstore:100/vm-101-disk-9.raw');
    assert.deepEqual([await ofGuest('100'), await ofGuest('101')], [true, false]);
    assert.equal(
      (await pvesm('path', 'vmstore:100/vm-100-disk-5.vmdk')).trim(),
      join(store, 'images/100/vm-100-disk-5.vmdk'),
    );
  });

  test('the name of an image says its format, whatever a guest wrote into it', async () => {
    const [disk] = await images(`volid=${encodeURIComponent('vmstore:100/vm-100-disk-1.raw')}`);
    assert.equal(disk?.format, 'raw');
    const target = join(room.path, 'down');
    await controller.cliOk('vol', 'download', 'local/vmstore/vm-100-disk-1.raw', target);
    assert.ok(readFileSync(target).equals(readFileSync(join(store, 'images/100/vm-100-disk-1.raw'))));
    for (const [name, format] of [
      ['vm-100-disk-8.qcow2', 'raw'],
      ['vm-100-disk-8.raw', 'qcow2'],
    ] as const)
      await controller.cliRefused(
        'invalid-argument',
        ...['vol', 'create', `local/vmstore/${name}`, '--capacity', '1M', '--format', format],
      );
  });

  test('a storage takes nothing but what it is for', async () => {
    const stream = join(room.path, 'stream');
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(512n);
    writeFileSync(stream, Buffer.concat([header, Buffer.alloc(512)]));
    for (const name of ['vztmpl/debian.tar.zst', 'import/disk.raw'])
      assert.match(
        (await controller.cli('pvesm', 'import', `vmstore:${name}`, 'raw+size', stream)).stderr,
        /not for (vztmpl|import): its content is images, iso, backup, snippets/,
      );
    assert.match(
      await controller.cliRefused(
        'not-supported',
        'vol',
        'create',
        'local/other/debian.tar.zst',
        '--capacity',
        '1M',
      ),
      /not for backup: its content is images, iso/,
    );
    const copy = ['vol', 'copy', 'local/vmstore/vm-100-disk-1.raw', 'local/other/debian.tar.zst'];
    const { status, stdout } = await controller.cli(...copy, '--dry-run');
    assert.equal(status, 4);
    assert.match(stdout, /not for backup: its content is images, iso/);
  });

  test('images are made, based, cloned, handed on and freed where Proxmox VE looks for them', async () => {
    const at = (vmid: number, name: string): string => join(store, 'images', String(vmid), name);
    assert.match(
      await pvesm('alloc', 'vmstore', '200', '', '4M', '--format', 'qcow2'),
      /vm-200-disk-0.qcow2/,
    );
    assert.ok(existsSync(at(200, 'vm-200-disk-0.qcow2')));
    await controller.cliOk('image', 'base', 'local/vmstore/vm-200-disk-0.qcow2');
    assert.equal(statSync(at(200, 'base-200-disk-0.qcow2')).mode & 0o222, 0);
    await controller.cliOk('image', 'clone', 'local/vmstore/base-200-disk-0.qcow2', '201');
    assert.equal(backing(at(201, 'vm-201-disk-0.qcow2')), '../200/base-200-disk-0.qcow2');
    const [clone] = await images('vmid=201');
    assert.equal(clone?.volid, 'vmstore:200/base-200-disk-0.qcow2/201/vm-201-disk-0.qcow2');
    await controller.cliOk('image', 'assign', 'local/vmstore/vm-201-disk-0.qcow2', '202');
    assert.ok(!existsSync(at(201, 'vm-201-disk-0.qcow2')));
    assert.equal(backing(at(202, 'vm-202-disk-0.qcow2')), '../200/base-200-disk-0.qcow2');
    // Away, back, and away for ever.
    const trashed = await controller.cliOk('vol', 'delete', 'local/vmstore/vm-202-disk-0.qcow2', '--trash');
    assert.ok(!existsSync(at(202, 'vm-202-disk-0.qcow2')), trashed);
    const [row] = await controller.api<{ id: string }[]>('/hosts/local/pools/vmstore/trash');
    await controller.cliOk('trash', 'restore', `local/vmstore/${row!.id}`);
    assert.ok(existsSync(at(202, 'vm-202-disk-0.qcow2')));
    await pvesm('free', 'vmstore:200/base-200-disk-0.qcow2/202/vm-202-disk-0.qcow2');
    await pvesm('free', 'vmstore:200/base-200-disk-0.qcow2');
    assert.ok(!existsSync(at(200, 'base-200-disk-0.qcow2')));
  });

  test('bytes come in, in place of others too, and go out', async () => {
    const [one, two] = [randomBytes(3 * MIB), randomBytes(3 * MIB)];
    const file = join(room.path, 'file');
    for (const bytes of [one, two]) {
      writeFileSync(file, bytes);
      await controller.cliOk('vol', 'upload', file, 'local/vmstore/vm-300-disk-0.raw', '--yes');
      assert.ok(readFileSync(join(store, 'images/300/vm-300-disk-0.raw')).equals(bytes));
    }
    await controller.cliOk('vol', 'upload', file, 'local/other/debian.iso');
    assert.ok(readFileSync(join(room.path, 'other/media/cd/debian.iso')).equals(two));
    await controller.cliOk(
      ...['vol', 'migrate', 'local/vmstore/vm-300-disk-0.raw', 'local/other/vm-300-disk-0.raw'],
    );
    assert.ok(readFileSync(join(room.path, 'other/disks/300/vm-300-disk-0.raw')).equals(two));
    assert.ok(!existsSync(join(store, 'images/300/vm-300-disk-0.raw')));
    await controller.cliOk('vol', 'wipe', 'local/other/vm-300-disk-0.raw', '--yes');
    assert.ok(readFileSync(join(room.path, 'other/disks/300/vm-300-disk-0.raw')).every((byte) => byte === 0));
  });

  test('what Proxmox VE makes, renames and takes away is seen within a moment, for a new guest too', async () => {
    const seen = async (name: string): Promise<boolean> =>
      (await controller.fetch(`/hosts/local/pools/vmstore/volumes/${name}`)).ok;
    const listed = async (name: string): Promise<boolean> =>
      (await images('vmid=400')).some((image) => image.name === name);
    mkdirSync(join(store, 'images/400'));
    make('-f', 'qcow2', join(store, 'images/400/vm-400-disk-0.qcow2'), '4M');
    await until('the new image is told of', () => listed('vm-400-disk-0.qcow2'), 10_000);
    // The directory of a guest goes with its last disk, and comes back with the next.
    rmSync(join(store, 'images/400'), { recursive: true });
    mkdirSync(join(store, 'images/400'));
    make('-f', 'qcow2', join(store, 'images/400/vm-400-disk-0.qcow2'), '8M');
    await until(
      'the image after it is told of',
      async () => (await images('vmid=400')).some(({ sizeBytes }) => sizeBytes === 8 * MIB),
      10_000,
    );
    renameSync(
      join(store, 'images/400/vm-400-disk-0.qcow2'),
      join(store, 'images/400/base-400-disk-0.qcow2'),
    );
    await until('its new name is told of', () => listed('base-400-disk-0.qcow2'), 10_000);
    assert.ok(!(await seen('vm-400-disk-0.qcow2')));
  });

  test('behind a link in the place of a guest nothing is seen, made or taken away', async () => {
    const outside = join(room.path, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'vm-350-disk-0.raw'), 'not ours');
    symlinkSync(outside, join(store, 'images/350'));
    await controller.cliOk('pool', 'refresh', 'local/vmstore');
    assert.deepEqual(await images('vmid=350'), []);
    for (const args of [
      ['vol', 'create', 'local/vmstore/vm-350-disk-1.raw', '--capacity', '1M'],
      ['vol', 'rename', 'local/vmstore/vm-100-disk-0.qcow2', 'vm-350-disk-1.qcow2'],
    ])
      await controller.cliRefused('path-escapes-pool', ...args);
    assert.equal(readFileSync(join(outside, 'vm-350-disk-0.raw'), 'utf8'), 'not ours');
    rmSync(join(store, 'images/350'));
  });

  test('names that Proxmox VE would not know are refused, also on a move', async () => {
    for (const name of ['web', 'vm-1-disk', '500:vm-500-disk-0.raw', 'x:y.raw', 'subvol-500-disk-0.subvol'])
      await controller.cliRefused(
        'invalid-name',
        'vol',
        'create',
        `local/vmstore/${name}`,
        '--capacity',
        '1M',
      );
    await controller.cliOk(
      'pool',
      'create',
      'local/default',
      '--type',
      'dir',
      '--target',
      join(room.path, 'default'),
    );
    await controller.cliOk('vol', 'create', 'local/default/web', '--capacity', '1M');
    await controller.cliRefused('invalid-name', 'vol', 'copy', 'local/default/web', 'local/vmstore/web');
    await controller.cliRefused(
      ...['invalid-name', 'vol', 'rename', 'local/vmstore/100:data.raw', 'data.raw'],
    );
    assert.ok(existsSync(join(store, 'images/100/data.raw')));
  });

  test('what Proxmox VE owns is changed there alone', async () => {
    for (const args of [
      ['pool', 'stop', 'local/vmstore'],
      ['pool', 'delete', 'local/vmstore', '--storage', '--yes'],
      ['pool', 'delete', 'local/vmstore', '--yes'],
      ['pool', 'build', 'local/vmstore'],
    ])
      await controller.cliRefused('pool-managed', ...args);
    await controller.cliOk('pool', 'refresh', 'local/vmstore');
    assert.equal((await pool('vmstore'))?.state, 'running');
  });

  test('while Proxmox VE holds its lock of the storage, no volume gets a name or loses it', async () => {
    const lock = join(guests, 'var/lock/pve-manager/pve-storage-vmstore');
    const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; read line'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await once(holder.stdout, 'data');
    const made = pvesm('alloc', 'vmstore', '600', '', '1M');
    await sleep(1000);
    assert.ok(!existsSync(join(store, 'images/600/vm-600-disk-0.raw')));
    holder.stdin.end('\n');
    assert.match(await made, /vm-600-disk-0/);
    // Of storage that the cluster shares it is a directory that one node makes.
    const shared = join(guests, 'etc/pve/priv/lock/storage-cluster');
    mkdirSync(shared);
    const other = pvesm('alloc', 'cluster', '601', '', '1M');
    // Others of the cluster ask for it by setting its time back.
    await until('it is asked for', () => statSync(shared).mtimeMs === 0);
    assert.ok(!existsSync(join(room.path, 'cluster/images/601/vm-601-disk-0.raw')));
    rmdirSync(shared);
    assert.match(await other, /vm-601-disk-0/);
    assert.ok(!existsSync(shared));
  });

  test("what is nobody's there is told of", async () => {
    for (const directory of ['images/100/nothing', 'images/100/subvol-100-disk-0.subvol', 'private/101'])
      mkdirSync(join(store, directory), { recursive: true });
    writeFileSync(join(store, 'dump/vzdump-qemu-100-2026_11_01-02_00_00.log'), 'INFO');
    writeFileSync(join(store, 'images/stray.txt'), 'x');
    const orphans = await controller.cliOk('pool', 'orphans', 'local/vmstore');
    assert.match(orphans, /images\/100\/nothing/);
    assert.match(orphans, /images\/stray.txt/);
    assert.doesNotMatch(orphans, /vm-100-disk|base-9000|template|subvol|private|dump/);
  });

  test('the pools follow the configuration, and stay while it is not there', async () => {
    writeFileSync(configuration, storages(`\ndir: late\n\tpath ${room.path}/late\n`));
    mkdirSync(join(room.path, 'late'));
    await until('a new storage is a pool', async () => (await pool('late'))?.state === 'running');
    await controller.cliOk('vol', 'create', 'local/late/vm-1000-disk-0.raw', '--capacity', '1M');
    // Torn, or of nothing but garbage.
    for (const text of ['', 'dir', '\0\0\0']) {
      writeFileSync(configuration, text);
      await sleep(5_500);
      assert.equal((await pool('late'))?.state, 'running');
    }
    // The file system of the cluster is down: what its guests use is used all the same.
    const pve = join(guests, 'etc/pve');
    renameSync(pve, `${pve}.away`);
    mkdirSync(pve);
    await sleep(5_500);
    assert.equal((await pool('late'))?.state, 'running');
    const refused = await controller.cli('pvesm', 'free', 'late:1000/vm-1000-disk-0.raw');
    assert.equal(refused.status, 255);
    assert.match(refused.stderr, /cluster file system of Proxmox VE is not mounted/);
    assert.match((await controller.cli('host', 'doctor', 'local')).stdout, /storage.cfg.*is not mounted/);
    rmdirSync(pve);
    renameSync(`${pve}.away`, pve);
    // Switched off and on again.
    writeFileSync(configuration, storages(`\ndir: late\n\tpath ${room.path}/late\n\tdisable\n`));
    await until('a storage that is switched off is no pool', async () => !(await pool('late')));
    assert.match((await controller.cli('pvesm', 'list', 'late')).stderr, /does not exist, or is no pool/);
    writeFileSync(configuration, storages(`\ndir: late\n\tpath ${room.path}/late\n`));
    await until('it is a pool again', async () => (await pool('late'))?.state === 'running');
    assert.match(await pvesm('list', 'late'), /vm-1000-disk-0/);
    writeFileSync(configuration, storages());
    await until('a storage that is gone is no pool', async () => !(await pool('late')));
    assert.ok(existsSync(join(room.path, 'late/images/1000/vm-1000-disk-0.raw')), 'and nothing in it is');
  });

  test('a pool of ours of the same name or directory stays, and the doctor tells', async () => {
    await controller.cliOk(
      'pool',
      'create',
      'local/mine',
      '--type',
      'dir',
      '--target',
      join(room.path, 'mine'),
    );
    writeFileSync(
      configuration,
      storages(
        `\ndir: default\n\tpath ${room.path}/x\n\ndir: twin\n\tpath ${room.path}/mine\n\ndir: bad\n\tpath relative\n`,
      ),
    );
    await until('the doctor knows', async () =>
      (await controller.cli('host', 'doctor', 'local')).stdout.includes("storage 'twin'"),
    );
    const { stdout } = await controller.cli('host', 'doctor', 'local');
    assert.match(stdout, /storage 'default' of Proxmox VE\s.*of this name is defined here already/);
    assert.match(stdout, /storage 'twin' of Proxmox VE\s.*overlaps that of pool 'mine'/);
    assert.match(stdout, /storage 'bad' of Proxmox VE\s.*absolute path/);
    assert.equal((await pool('default'))?.managedBy, undefined);
    assert.equal((await pool('mine'))?.managedBy, undefined);
  });
});
