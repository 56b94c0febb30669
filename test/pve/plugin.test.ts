import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { TestAgent } from '../support/agent.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';

const KIB = 1024;
const MIB = 1 << 20;
const PLUGIN = resolve('agent/pve/StowagePlugin.pm');

interface Reply {
  answer?: unknown[];
  scalar?: unknown;
  error?: string;
  warnings?: string[];
}

/** The plug-in in a process of Perl, called as Proxmox VE calls it. */
class Node implements Disposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    this.#process = spawn('perl', ['-Itest/pve/perl', 'test/pve/harness.pl', PLUGIN], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
  }

  async reply(method: string, ...args: unknown[]): Promise<Reply> {
    this.#process.stdin!.write(`${JSON.stringify([method, ...args])}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the harness ended');
    return JSON.parse(value) as Reply;
  }

  /** What it returns in list context. */
  async list(method: string, ...args: unknown[]): Promise<unknown[]> {
    const { answer, error } = await this.reply(method, ...args);
    if (error !== undefined) throw new Error(`${method}: ${error}`);
    return answer!;
  }

  async call<T>(method: string, ...args: unknown[]): Promise<T> {
    const { scalar, error } = await this.reply(`scalar:${method}`, ...args);
    if (error !== undefined) throw new Error(`${method}: ${error}`);
    return scalar as T;
  }

  async refused(words: RegExp, method: string, ...args: unknown[]): Promise<void> {
    const { error } = await this.reply(`scalar:${method}`, ...args);
    assert.match(error ?? 'not refused', words);
  }

  [Symbol.dispose](): void {
    this.#process.kill();
  }
}

interface PveImage {
  volid: string;
  format: string;
  size: number;
  used: number;
  vmid: number;
  parent: string | null;
  ctime: number;
}

describe('the plug-in for Proxmox VE', () => {
  const room = scratch();
  const guests = join(room.path, 'guests');
  const socket = join(room.path, 'state/agent.sock');
  const scfg = { type: 'stowage', 'stowage-pool': 'data', 'stowage-socket': socket, shared: 0 };
  let agent: TestAgent;
  let node: Node;

  before(async () => {
    mkdirSync(join(guests, 'etc/pve/qemu-server'), { recursive: true });
    mkdirSync(join(room.path, 'data'));
    agent = await TestAgent.start(join(room.path, 'state'), { STOWAGE_GUESTS_ROOT: guests });
    await agent.ok('POST', '/pools', {
      ...{ name: 'data', type: 'dir', target: { path: join(room.path, 'data') } },
    });
    node = new Node();
  });
  after(async () => {
    node?.[Symbol.dispose]();
    await agent?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const _volumeOf = (volid: string): string => volid.replace(/^s:/, '');
  const images = (...args: unknown[]): Promise<PveImage[]> => node.call('list_images', 's', scfg, ...args);
  const at = (name: string): string => join(room.path, 'data', name);

  test('it says what it is', async () => {
    assert.equal(await node.call('type'), 'stowage');
    assert.equal(await node.call('api'), 12);
    const { content, format } = await node.call<{ content: unknown[]; format: unknown[] }>('plugindata');
    assert.deepEqual(content[0], { images: 1, rootdir: 1 });
    assert.deepEqual(format, [{ raw: 1, qcow2: 1, vmdk: 1 }, 'raw']);
    const properties = Object.keys(await node.call<object>('properties'));
    const options = await node.call<Record<string, { optional: number }>>('options');
    for (const property of properties) assert.ok(options[property], property);
  });

  test('the storage is started when it is activated, and tells its state', async () => {
    assert.deepEqual(await node.list('status', 's', scfg, {}), []);
    assert.equal(await node.call('check_connection', 's', scfg), 0);
    await node.call('activate_storage', 's', scfg, {});
    assert.equal(await node.call('check_connection', 's', scfg), 1);
    const [total, available, used, active] = (await node.list('status', 's', scfg, {})) as number[];
    assert.ok(total! > 0 && available! <= total! && used! <= total! && active === 1);
    assert.match(await node.call('get_identity', scfg, 's'), /^[0-9a-f]{32}$/);
    await node.refused(/no pool 'no'/, 'activate_storage', 's', { ...scfg, 'stowage-pool': 'no' }, {});
    await node.refused(
      /does not answer on .*gone\.sock/,
      'activate_storage',
      ...['s', { ...scfg, 'stowage-socket': join(room.path, 'gone.sock') }, {}],
    );
  });

  const NAMES: [string, string, unknown[] | RegExp][] = [
    ['a disk', 'vm-100-disk-0', ['images', 'vm-100-disk-0', '100', null, null, false, 'raw']],
    [
      'one in a file',
      'vm-100-disk-0.qcow2',
      ['images', 'vm-100-disk-0.qcow2', '100', null, null, false, 'qcow2'],
    ],
    ['a base', 'base-9-disk-0.raw', ['images', 'base-9-disk-0.raw', '9', null, null, true, 'raw']],
    [
      'a linked clone',
      'base-9-disk-0.raw/vm-100-disk-1.qcow2',
      ['images', 'vm-100-disk-1.qcow2', '100', 'base-9-disk-0.raw', '9', false, 'qcow2'],
    ],
    ['no name of a guest', 'web', /unable to parse/],
    ['a path', '../vm-100-disk-0', /unable to parse/],
    ['a clone of no base', 'vm-9-disk-0/vm-100-disk-1', /unable to parse/],
  ];
  for (const [what, volname, wanted] of NAMES)
    test(`a name is taken apart: ${what}`, async () => {
      if (wanted instanceof RegExp) return node.refused(wanted, 'parse_volname', volname);
      const parsed = await node.list('parse_volname', volname);
      assert.deepEqual(
        parsed.map((part, index) => (index === 5 ? part === 1 : part)),
        wanted,
      );
    });

  test('an image is made of a size in KiB, listed, and gone when it is freed', async () => {
    const name = await node.call<string>('alloc_image', 's', scfg, 100, 'qcow2', null, 4 * KIB + 1);
    assert.equal(name, 'vm-100-disk-0.qcow2');
    assert.equal(await node.call('alloc_image', 's', scfg, 100, 'raw', null, KIB), 'vm-100-disk-1.raw');
    assert.equal(
      await node.call('alloc_image', 's', scfg, 101, 'raw', 'vm-101-cloudinit.raw', 4),
      'vm-101-cloudinit.raw',
    );
    const [first, second] = await images(100, null, {});
    assert.deepEqual(
      [first?.volid, first?.format, first?.size, first?.vmid, first?.parent],
      ['s:vm-100-disk-0.qcow2', 'qcow2', 4 * MIB + KIB, 100, null],
    );
    assert.ok(Math.abs(first!.ctime - Date.now() / 1000) < 60);
    assert.equal(second?.volid, 's:vm-100-disk-1.raw');
    // The list of ids wins over the guest.
    assert.deepEqual(
      (await images(100, ['s:vm-101-cloudinit.raw'], {})).map(({ volid }) => volid),
      ['s:vm-101-cloudinit.raw'],
    );
    assert.deepEqual(await node.list('path', scfg, 'vm-100-disk-0.qcow2', 's'), [at(name), '100', 'images']);
    assert.deepEqual((await node.list('volume_size_info', scfg, 's', name, 5)).slice(0, 2), [
      4 * MIB + KIB,
      'qcow2',
    ]);
    assert.equal(await node.call('free_image', 's', scfg, 'vm-100-disk-1.raw', 0, 'raw'), null);
    assert.ok(!existsSync(at('vm-100-disk-1.raw')));
    await node.refused(
      /no volume 'vm-100-disk-1.raw'.*\[volume-not-found\]/,
      'free_image',
      's',
      scfg,
      'vm-100-disk-1.raw',
    );
    for (const [words, ...args] of [
      [/illegal name/, 100, 'raw', 'vm-101-disk-7.raw', 4],
      [/illegal name/, 100, 'raw', 'vm-100-disk-7.qcow2', 4],
      [/unsupported format/, 100, 'qed', null, 4],
      [/\[volume-exists\]/, 100, 'qcow2', 'vm-100-disk-0.qcow2', 4],
    ] as const)
      await node.refused(words, 'alloc_image', 's', scfg, ...args);
  });

  test('the number of a disk that is gone, in the trash or in a configuration is not given again', async () => {
    assert.equal(await node.call('find_free_diskname', 's', scfg, 100, 'raw', 1), 'vm-100-disk-2.raw');
    writeFileSync(
      join(guests, 'etc/pve/storage.cfg'),
      `dir: local\n\tdisable\n\ndir: s\n\tpath ${room.path}/elsewhere\n`,
    );
    writeFileSync(join(guests, 'etc/pve/qemu-server/100.conf'), 'scsi0: s:100/vm-100-disk-2.raw,size=4M\n');
    assert.equal(await node.call('find_free_diskname', 's', scfg, 100, 'raw', 1), 'vm-100-disk-3.raw');
  });

  test('a base takes no write, its clone stands on it, and keeps it from being freed', async () => {
    await node.call('alloc_image', 's', scfg, 900, 'raw', 'vm-900-disk-0.raw', KIB);
    assert.equal(await node.call('create_base', 's', scfg, 'vm-900-disk-0.raw'), 'base-900-disk-0.raw');
    assert.equal(statSync(at('base-900-disk-0.raw')).mode & 0o222, 0);
    await node.refused(/not possible with base image/, 'create_base', 's', scfg, 'base-900-disk-0.raw');
    const clone = await node.call<string>('clone_image', scfg, 's', 'base-900-disk-0.raw', 901);
    assert.equal(clone, 'base-900-disk-0.raw/vm-901-disk-0.qcow2');
    const [listed] = await images(901);
    assert.deepEqual([listed?.volid, listed?.parent], [`s:${clone}`, 'base-900-disk-0.raw']);
    await node.refused(
      /vm-901-disk-0.qcow2.*\[volume-has-clones\]/,
      'free_image',
      's',
      scfg,
      'base-900-disk-0.raw',
      1,
    );
    await node.refused(/only with base images/, 'clone_image', scfg, 's', clone, 902);
    await node.refused(/\[not-supported\]/, 'clone_image', scfg, 's', 'base-900-disk-0.raw', 902, 'snap');
    assert.equal(
      await node.call('rename_volume', scfg, 's', clone, 903),
      's:base-900-disk-0.raw/vm-903-disk-0.qcow2',
    );
    await node.call('free_image', 's', scfg, 'base-900-disk-0.raw/vm-903-disk-0.qcow2');
    await node.call('free_image', 's', scfg, 'base-900-disk-0.raw', 1);
    assert.ok(!existsSync(at('base-900-disk-0.raw')));
  });

  test('a disk of VMware is made, exported as what a guest sees of it, and cloned', async () => {
    const name = await node.call<string>('alloc_image', 's', scfg, 905, 'vmdk', null, KIB);
    assert.equal(name, 'vm-905-disk-0.vmdk');
    execFileSync('qemu-io', ['-f', 'vmdk', '-c', 'write -P 7 0 64k', at(name)]);
    const [listed] = await images(905);
    assert.deepEqual([listed?.volid, listed?.format, listed?.size], [`s:${name}`, 'vmdk', MIB]);
    const file = join(room.path, 'vmdk');
    await node.call('volume_export', ...[scfg, 's', { file, mode: '>' }, name, 'raw+size', null, null, 0]);
    const content = Buffer.concat([Buffer.alloc(64 << 10, 7), Buffer.alloc(MIB - (64 << 10))]);
    assert.ok(readFileSync(file).subarray(8).equals(content));
    const into = [scfg, 's', { file, mode: '<' }, 'vm-906-disk-0.vmdk', 'raw+size', null, null, 0, 0];
    assert.equal((await node.reply('scalar:volume_import', ...into)).scalar, 's:vm-906-disk-0.vmdk');
    execFileSync('qemu-img', [
      'compare',
      '-q',
      '-f',
      'vmdk',
      '-F',
      'vmdk',
      at(name),
      at('vm-906-disk-0.vmdk'),
    ]);
    await node.refused(/\[not-supported\]/, 'volume_resize', scfg, 's', name, 2 * MIB, 0);
    const base = await node.call<string>('create_base', 's', scfg, name);
    const clone = await node.call<string>('clone_image', scfg, 's', base, 907);
    assert.equal(clone, 'base-905-disk-0.vmdk/vm-907-disk-0.qcow2');
    await node.call('free_image', 's', scfg, clone);
    await node.call('free_image', 's', scfg, base, 1);
  });

  test('features are told by the state and the format of a volume', async () => {
    await node.call('alloc_image', 's', scfg, 910, 'raw', 'vm-910-disk-0.raw', KIB);
    const can = async (feature: string, volname: string, snap: string | null = null): Promise<boolean> =>
      (await node.call('volume_has_feature', scfg, feature, 's', volname, snap, 0)) === 1;
    assert.deepEqual(
      await Promise.all([
        can('snapshot', 'vm-100-disk-0.qcow2'),
        can('snapshot', 'vm-910-disk-0.raw'),
        can('snapshot', 'vm-910-disk-0.vmdk'),
        can('clone', 'vm-910-disk-0.raw'),
        can('template', 'vm-910-disk-0.raw'),
        can('copy', 'vm-910-disk-0.raw'),
        can('copy', 'vm-910-disk-0.raw', 'snap'),
        can('replicate', 'vm-910-disk-0.raw'),
        can('rename', 'vm-910-disk-0.raw'),
      ]),
      [true, false, false, false, true, true, false, false, true],
    );
    const base = await node.call<string>('create_base', 's', scfg, 'vm-910-disk-0.raw');
    assert.deepEqual([await can('clone', base), await can('template', base)], [true, false]);
    await node.call('free_image', 's', scfg, base, 1);
  });

  test('a volume grows, goes back to a snapshot, and keeps its notes', async () => {
    const name = 'vm-100-disk-0.qcow2';
    await node.call('volume_resize', scfg, 's', name, 8 * MIB, 0);
    assert.equal(await node.call('volume_size_info', scfg, 's', name), 8 * MIB);
    // A running guest grows what it has open itself.
    await node.call('volume_resize', scfg, 's', name, 16 * MIB, 1);
    assert.equal(await node.call('volume_size_info', scfg, 's', name), 8 * MIB);
    await node.call('volume_snapshot', scfg, 's', name, 'before');
    assert.deepEqual(Object.keys(await node.call<object>('volume_snapshot_info', scfg, 's', name)), [
      'before',
    ]);
    assert.equal(await node.call('volume_rollback_is_possible', scfg, 's', name, 'before', []), 1);
    await node.refused(/has no snapshot 'no'/, 'volume_rollback_is_possible', scfg, 's', name, 'no', []);
    await node.call('volume_snapshot_rollback', scfg, 's', name, 'before');
    assert.deepEqual(await node.list('volume_export_formats', scfg, 's', name, 'before'), ['raw+size']);
    assert.deepEqual(await node.list('volume_import_formats', scfg, 's', name, 'before'), []);
    execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 0 1M', at(name)]);
    await node.refused(/keeps its id/, 'rename_snapshot', scfg, 's', name, 'before', 'after');
    await node.refused(/reserved name/, 'rename_snapshot', scfg, 's', name, 'before', 'current');
    const then = join(room.path, 'then');
    await node.call(
      'volume_export',
      ...[scfg, 's', { file: then, mode: '>' }, name, 'raw+size', 'before', null, 0],
    );
    const exported = readFileSync(then);
    assert.equal(exported.readBigUInt64LE(), BigInt(8 * MIB));
    assert.equal(exported.length, 8 * MIB + 8);
    assert.ok(!exported.subarray(8, 8 + MIB).equals(Buffer.alloc(MIB, 7)), 'not what was written since');
    await node.call('volume_snapshot_rollback', scfg, 's', name, 'before');
    await node.call('volume_snapshot_delete', scfg, 's', name, 'before');
    await node.call('update_volume_attribute', scfg, 's', name, 'notes', 'of the shop');
    await node.call('update_volume_attribute', scfg, 's', name, 'protected', 1);
    assert.equal(await node.call('get_volume_attribute', scfg, 's', name, 'notes'), 'of the shop');
    assert.equal(await node.call('get_volume_attribute', scfg, 's', name, 'protected'), 1);
    assert.equal(await node.call('get_volume_attribute', scfg, 's', name, 'colour'), null);
    await node.refused(/not supported/, 'update_volume_attribute', scfg, 's', name, 'colour', 'red');
    await node.refused(/\[volume-protected\]/, 'free_image', 's', scfg, name);
    await node.call('update_volume_attribute', scfg, 's', name, 'protected', 0);
    assert.equal(await node.call('activate_volume', 's', scfg, name, null, {}), 1);
  });

  test('a stream goes out and comes in whole, or leaves nothing', async () => {
    const bytes = randomBytes(5 * MIB + 512);
    const stream = join(room.path, 'stream');
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(BigInt(bytes.length));
    writeFileSync(stream, Buffer.concat([header, bytes]));
    const importAs = (volname: string, rename = 0): Promise<Reply> =>
      node.reply(
        'scalar:volume_import',
        ...[scfg, 's', { file: stream, mode: '<' }, volname, 'raw+size', null, null, 0, rename],
      );
    assert.equal((await importAs('vm-200-disk-0.qcow2')).scalar, 's:vm-200-disk-0.qcow2');
    assert.match((await importAs('vm-200-disk-0.qcow2')).error!, /already exists/);
    const renamed = await importAs('vm-200-disk-0.qcow2', 1);
    assert.equal(renamed.scalar, 's:vm-200-disk-1.qcow2');
    assert.match(renamed.warnings![0]!, /importing with a different name/);
    const out = join(room.path, 'out');
    await node.call(
      'volume_export',
      ...[scfg, 's', { file: out, mode: '>' }, 'vm-200-disk-1.qcow2', 'raw+size', null, null, 0],
    );
    const exported = readFileSync(out);
    const size = Number(exported.readBigUInt64LE());
    assert.ok(size >= bytes.length && exported.length === size + 8);
    assert.ok(exported.subarray(8, 8 + bytes.length).equals(bytes));
    assert.deepEqual(await node.list('volume_export_formats', scfg, 's', 'vm-200-disk-1.qcow2'), [
      'raw+size',
    ]);
    assert.deepEqual(
      await node.list('volume_export_formats', scfg, 's', 'vm-200-disk-1.qcow2', null, null, 1),
      [],
    );
    // Cut in the middle, and before its size.
    for (const [length, words] of [
      [MIB, /ends \d+ bytes before its end/],
      [4, /no size found/],
    ] as const) {
      truncateSync(stream, length);
      assert.match((await importAs('vm-201-disk-0.raw')).error!, words);
      assert.ok(!existsSync(at('vm-201-disk-0.raw')));
      assert.deepEqual(await agent.ok('GET', '/transfers'), []);
    }
  });

  test('on btrfs, snapshots have linked clones, and a volume goes out and comes in with its snapshots', {
    skip: isRoot ? false : 'only root mounts btrfs',
  }, async () => {
    mkdirSync(join(room.path, 'btrfs'));
    await using _mounted = mountFileSystem('btrfs', 256, join(room.path, 'btrfs'));
    const target = { path: join(room.path, 'btrfs/pool') };
    await agent.ok('POST', '/pools', { name: 'tree', type: 'btrfs', target });
    await agent.ok('POST', '/pools/tree/build');
    await agent.ok('POST', '/pools/tree/start');
    const tree = { ...scfg, 'stowage-pool': 'tree' };
    try {
      const name = 'vm-300-disk-0.raw';
      await node.call('alloc_image', 't', tree, 300, 'raw', name, 4 * KIB);
      const disk = (volume: string): string => join(target.path, volume, 'disk.raw');
      const bytes = randomBytes(4 * MIB);
      writeFileSync(disk(name), bytes);
      await node.call('volume_snapshot', tree, 't', name, 'before');
      writeFileSync(disk(name), randomBytes(4 * MIB));
      await node.call('volume_snapshot', tree, 't', name, '__migration__');

      assert.equal(await node.call('volume_has_feature', tree, 'clone', 't', name, 'before', 0), 1);
      assert.equal(await node.call('volume_has_feature', tree, 'clone', 't', name, null, 0), null);
      await node.refused(/only with base images and snapshots/, 'clone_image', tree, 't', name, 301);
      const clone = await node.call<string>('clone_image', tree, 't', name, 301, 'before');
      assert.equal(clone, 'vm-301-disk-0.raw');
      assert.ok(readFileSync(disk(clone)).equals(bytes));

      const formats = (method: string, ...more: unknown[]) => node.list(method, tree, 't', name, ...more);
      assert.deepEqual(await formats('volume_export_formats', '__migration__', null, 1), ['btrfs']);
      assert.deepEqual(await formats('volume_export_formats', 'before', null, 0), ['btrfs', 'raw+size']);
      assert.deepEqual(await formats('volume_export_formats', null, null, 0), ['raw+size']);
      assert.deepEqual(await formats('volume_export_formats', '__migration__', 'before', 1), []);
      assert.deepEqual(await formats('volume_import_formats', '__migration__', null, 1), ['btrfs']);
      const file = join(room.path, 'stream.btrfs');
      const out = [tree, 't', { file, mode: '>' }, name, 'btrfs', '__migration__', null, 1];
      await node.call('volume_export', ...out);
      const into = (length: number) => {
        truncateSync(file, length);
        const given = [tree, 't', { file, mode: '<' }, name, 'btrfs', '__migration__', null, 1, 1];
        return node.reply('scalar:volume_import', ...given);
      };
      const made = await into(statSync(file).size);
      assert.equal(made.scalar, 't:vm-300-disk-1.raw', made.error);
      const snapshots = await node.call<object>('volume_snapshot_info', tree, 't', 'vm-300-disk-1.raw');
      assert.deepEqual(Object.keys(snapshots).sort(), ['__migration__', 'before']);
      assert.ok(readFileSync(disk('vm-300-disk-1.raw')).equals(readFileSync(disk(name))));
      assert.ok((await into(1_000_000)).error);
      assert.ok(!existsSync(join(target.path, 'vm-300-disk-2.raw')));
    } finally {
      await agent.ok('POST', '/pools/tree/stop');
    }
  });

  test('a stream that is cut in the middle is not gone on with from its start', async () => {
    const path = join(room.path, 'cut.sock');
    let asked = 0;
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-length': 100_000 });
      // Once in the middle, then whole: as an agent that was restarted.
      if (++asked > 1) return response.end(Buffer.alloc(100_000, 1));
      response.write(Buffer.alloc(70_000, 2), () => setTimeout(() => response.destroy(), 100));
    });
    server.listen(path);
    await once(server, 'listening');
    try {
      const out = { file: join(room.path, 'cut'), mode: '>' };
      const args = [
        { ...scfg, 'stowage-socket': path },
        's',
        out,
        'vm-1-disk-0.raw',
        'raw+size',
        null,
        null,
        0,
      ];
      await node.refused(/was cut/, 'volume_export', ...args);
      assert.ok(!readFileSync(out.file).includes(1, 8));
    } finally {
      server.close();
    }
  });

  test('what it does not override is nothing that would go past the agent', async () => {
    const text = readFileSync(PLUGIN, 'utf8');
    for (const method of [
      ...['list_images', 'alloc_image', 'free_image', 'create_base', 'clone_image', 'status', 'path'],
      ...['filesystem_path', 'volume_size_info', 'volume_resize', 'volume_snapshot', 'rename_volume'],
    ])
      assert.match(text, new RegExp(`^sub ${method} \\{`, 'm'));
    execFileSync('perl', ['-Itest/pve/perl', '-c', PLUGIN], { stdio: 'ignore' });
  });
});
