import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { FleetVolume, JobDetails } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const onlyRoot = { skip: isRoot ? false : 'only root mounts btrfs' };
const SOURCE = 'local/default/web';

describe('a volume as it was at a snapshot', () => {
  const room = scratch();
  const at = (name: string): string => join(room.path, name);
  let controller: TestController;
  /** What the snapshot `monday` holds, and `tuesday`. */
  const monday = Buffer.alloc(16 * MIB, 1);
  const tuesday = Buffer.from(monday).fill(2, 3 * MIB, 3 * MIB + 4096);

  before(async () => {
    controller = await TestController.start(at('controller'), []);
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
    await controller.cliOk('pool', 'create-as', 'local', 'other', 'dir', '--target', at('other'), '--build');
    await controller.cliOk('vol', 'create', SOURCE, '--capacity', '16M', '--format', 'qcow2');
    const { path: file } = await controller.api<FleetVolume>('/hosts/local/pools/default/volumes/web');
    const write = (byte: number, from: number, length: number): void =>
      void execFileSync('qemu-io', ['-f', 'qcow2', '-c', `write -P ${byte} ${from} ${length}`, file]);
    write(1, 0, 16 * MIB);
    await controller.cliOk('vol', 'snapshot', 'create', SOURCE, 'monday');
    write(2, 3 * MIB, 4096);
    await controller.cliOk('vol', 'snapshot', 'create', SOURCE, 'tuesday');
    write(3, 0, 16 * MIB);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  const download = async (...more: string[]): Promise<Buffer> => {
    const path = at('down');
    await controller.cliOk('vol', 'download', SOURCE, path, '--force', ...more);
    return readFileSync(path);
  };

  test('is downloaded by each way, and into a pipe', async () => {
    assert.ok((await download('--snapshot', 'monday')).equals(monday));
    assert.ok((await download('--snapshot', 'tuesday', '--through-controller')).equals(tuesday));
    assert.ok((await download('--as', 'content')).every((byte) => byte === 3));
    const { stdout } = spawnSync(
      process.execPath,
      ['controller/cli/stowage.ts', 'vol', 'download', SOURCE, '-', '--snapshot', 'monday'],
      {
        env: { ...process.env, STOWAGE_URL: controller.url, STOWAGE_TOKEN: controller.token },
        maxBuffer: 64 * MIB,
      },
    );
    assert.ok(stdout.equals(monday));
  });

  test('has a state of its own: what is left of a download of one is not gone on with by another', async () => {
    const [one, two] = await Promise.all(
      ['monday', 'tuesday'].map((id) =>
        controller.api<{ etag: string }>(
          `/hosts/local/pools/default/volumes/web/layout?as=content&snapshot=${id}`,
        ),
      ),
    );
    assert.notEqual(one!.etag, two!.etag);
    const path = '/hosts/local/pools/default/volumes/web/extents?as=content&snapshot=tuesday';
    await assert.rejects(controller.api(`${path}&etag=${one!.etag}&from=1`), /has changed/);
  });

  test('is copied, also into its own pool, and a copy is brought to a later one', async () => {
    for (const target of ['local/other/copy', 'local/default/copy']) {
      await controller.cliOk('vol', 'copy', SOURCE, target, '--snapshot', 'monday', '--format', 'raw');
      const [, pool] = target.split('/');
      const path = `/hosts/local/pools/${pool}/volumes/copy`;
      const volume = await controller.api<FleetVolume>(path);
      assert.deepEqual([volume.format, volume.capacityBytes], ['raw', 16 * MIB]);
      assert.ok(readFileSync(volume.path).equals(monday));
      const job = await controller.api<JobDetails>('/hosts/local/pools/default/volumes/web/migrate', {
        ...{ target, keepSource: true, refresh: true, snapshot: 'tuesday' },
      });
      const { state, wireBytes } = await controller.ended(job.id);
      assert.equal(state, 'done');
      assert.ok(wireBytes > 0 && wireBytes < 4 * MIB, `${wireBytes} bytes`);
      assert.ok(readFileSync((await controller.api<FleetVolume>(path)).path).equals(tuesday));
    }
    // Of the same format as the source, too.
    await controller.cliOk('vol', 'copy', SOURCE, 'local/other/as-it-was', '--snapshot', 'tuesday');
    const made = await controller.api<FleetVolume>('/hosts/local/pools/other/volumes/as-it-was');
    assert.deepEqual([made.format, made.snapshotCount], ['qcow2', 0]);
    const path = at('as-it-was');
    await controller.cliOk('vol', 'download', 'local/other/as-it-was', path, '--as', 'content');
    assert.ok(readFileSync(path).equals(tuesday));
  });

  test("is a stream of Proxmox VE's", async () => {
    await controller.cliOk('vol', 'rename', SOURCE, 'vm-100-disk-0.qcow2');
    const volid = 'default:100/vm-100-disk-0.qcow2';
    await controller.cliOk('pvesm', 'export', volid, 'raw+size', at('stream'), '--snapshot', 'monday');
    const stream = readFileSync(at('stream'));
    assert.equal(stream.readBigUInt64LE(), BigInt(16 * MIB));
    assert.ok(stream.subarray(8).equals(monday));
    const refused = await controller.cli(
      ...['pvesm', 'export', volid, 'qcow2+size', at('no'), '--snapshot', 'monday', '--with-snapshots', '1'],
    );
    assert.equal(refused.status, 255);
    assert.match(refused.stderr, /as raw\+size/);
    await controller.cliOk('vol', 'rename', 'local/default/vm-100-disk-0.qcow2', 'web');
  });

  test('is in a stream of its storage, as Proxmox VE makes and reads it', onlyRoot, async () => {
    mkdirSync(at('node'));
    await using _mounted = mountFileSystem('btrfs', 512, at('node'));
    const btrfs = (...args: string[]): void => void execFileSync('btrfs', args, { stdio: 'pipe' });
    await controller.cliOk(
      'pool',
      'create-as',
      'local',
      'send',
      'btrfs',
      '--target',
      at('node/pool'),
      '--build',
    );
    try {
      const volid = 'send:100/vm-100-disk-0.raw';
      const volume = 'local/send/vm-100-disk-0.raw';
      await controller.cliOk('vol', 'copy', SOURCE, volume, '--snapshot', 'monday', '--format', 'raw');
      await controller.cliOk('vol', 'snapshot', 'create', volume, 'one');
      await controller.cliOk('vol', 'snapshot', 'create', volume, '__migration__');
      const refused = async (words: RegExp, ...args: string[]): Promise<void> => {
        const { status, stderr } = await controller.cli('pvesm', ...args);
        assert.equal(status, 255);
        assert.match(stderr, words);
      };
      await refused(/needs a snapshot/, 'export', volid, 'btrfs', at('no'));
      await refused(/no zfs streams/, 'export', volid, 'zfs', at('no'), '--snapshot', 'one');
      await refused(/no snapshot two/, 'export', volid, 'btrfs', at('no'), '--snapshot', 'two');
      assert.ok(!existsSync(at('no')));
      const all = ['--snapshot', '__migration__', '--with-snapshots', '1'];
      await controller.cliOk('pvesm', 'export', volid, 'btrfs', at('stream.btrfs'), ...all);

      // What a node makes of it, and sends back.
      mkdirSync(at('node/received'));
      btrfs('-q', 'receive', '-e', '-f', at('stream.btrfs'), '--', at('node/received'));
      const names = ['vm-100-disk-0@__migration__', 'vm-100-disk-0@one'];
      assert.deepEqual(readdirSync(at('node/received')).sort(), names);
      for (const name of names)
        assert.ok(readFileSync(at(`node/received/${name}/disk.raw`)).equals(monday), name);
      btrfs(
        '-q',
        'send',
        '-e',
        '-f',
        at('back.btrfs'),
        '--',
        at(`node/received/${names[1]}`),
        at(`node/received/${names[0]}`),
      );
      const back = [
        'btrfs',
        at('back.btrfs'),
        '--snapshot',
        '__migration__',
        '--delete-snapshot',
        '__migration__',
      ];
      await refused(/already/, 'import', volid, ...back);
      const imported = await controller.cliOk('pvesm', 'import', volid, ...back, '--allow-rename', '1');
      assert.match(imported, /successfully imported 'send:100\/vm-100-disk-1.raw'/);
      const made = await controller.api<FleetVolume>('/hosts/local/pools/send/volumes/vm-100-disk-1.raw');
      assert.equal(made.snapshotCount, 1);
      assert.ok(readFileSync(made.path).equals(monday));

      // Through pipes, and cut in one.
      const run = (command: string) =>
        spawnSync('bash', ['-o', 'pipefail', '-c', command], {
          env: { ...process.env, STOWAGE_URL: controller.url, STOWAGE_TOKEN: controller.token },
          encoding: 'utf8',
        });
      const pvesm = `${process.execPath} controller/cli/stowage.ts pvesm`;
      const piped = run(
        `${pvesm} export ${volid} btrfs - --snapshot one | ${pvesm} import send:101/vm-101-disk-0.raw btrfs - --snapshot one`,
      );
      assert.match(piped.stdout, /successfully imported 'send:101\/vm-101-disk-0.raw'/, piped.stderr);
      const cut = run(
        `head -c 1000000 ${at('stream.btrfs')} | ${pvesm} import send:102/vm-102-disk-0.raw btrfs -`,
      );
      assert.equal(cut.status, 255);
      assert.match(cut.stderr, /the stream ends before it is whole/);
      const noise = run(`head -c 1000000 /dev/urandom | ${pvesm} import send:102/vm-102-disk-0.raw btrfs -`);
      assert.match(noise.stderr, /no whole stream of format btrfs/);
      const volumes = await controller.cliOk('vol', 'list', 'local/send', '-o', 'name');
      assert.deepEqual(volumes.trim().split('\n').sort(), [
        volume,
        'local/send/vm-100-disk-1.raw',
        'local/send/vm-101-disk-0.raw',
      ]);
      const trail = await controller.cliOk('audit', 'list', '--action', 'volume.send-stream');
      assert.match(trail, /btrfs, as of __migration__, with the snapshots before it/);
    } finally {
      await controller.cliOk('pool', 'stop', 'local/send');
    }
  });

  test('travels with its volume from btrfs to btrfs, whatever is killed meanwhile', onlyRoot, async () => {
    for (const name of ['here', 'there']) mkdirSync(at(name));
    await using _here = mountFileSystem('btrfs', 256, at('here'));
    await using _there = mountFileSystem('btrfs', 256, at('there'));
    const [from, to] = ['local/here/v', 'local/there/v'];
    for (const name of ['here', 'there'])
      await controller.cliOk(
        'pool',
        'create-as',
        'local',
        name,
        'btrfs',
        '--target',
        at(`${name}/pool`),
        '--build',
      );
    const volumeAt = (pool: string): Promise<FleetVolume> =>
      controller.api<FleetVolume>(`/hosts/local/pools/${pool}/volumes/v`);
    const idsOf = async (reference: string): Promise<string[]> =>
      JSON.parse(await controller.cliOk('vol', 'snapshot', 'list', reference, '-o', 'json'))
        .map(({ id }: { id: string }) => id)
        .sort();
    try {
      await controller.cliOk('vol', 'copy', SOURCE, from, '--snapshot', 'monday', '--format', 'raw');
      await controller.cliOk('vol', 'snapshot', 'create', from, 'one');
      await controller.cliOk('vol', 'snapshot', 'create', from, 'two');
      await controller.cliOk('vol', 'set', from, '--notes', 'of the accounts');
      const { id } = await volumeAt('here');
      for (const beside of [
        ['--format', 'qcow2'],
        ['--snapshot', 'one'],
      ])
        await controller.cliRefused(
          'invalid-argument',
          'vol',
          'copy',
          from,
          to,
          '--with-snapshots',
          ...beside,
        );
      await controller.cliRefused('not-supported', 'vol', 'copy', from, 'local/default', '--with-snapshots');
      await controller.cliRefused(
        'not-supported',
        ...['vol', 'copy', from, to, '--with-snapshots', '--refresh'],
      );
      assert.deepEqual(await idsOf(from), ['one', 'two'], 'nothing was begun');

      await controller.cliOk('vol', 'copy', from, to, '--with-snapshots');
      assert.deepEqual(
        [await idsOf(from), await idsOf(to)],
        [
          ['one', 'two'],
          ['one', 'two'],
        ],
      );
      const copy = await volumeAt('there');
      assert.notEqual(copy.id, id);
      assert.ok(readFileSync(copy.path).equals(monday));
      await controller.cliRefused('volume-exists', 'vol', 'migrate', from, to, '--with-snapshots');
      assert.deepEqual(await idsOf(from), ['one', 'two']);
      await controller.cliOk('vol', 'delete', to, '--delete-snapshots', '--yes');

      const job = await controller.api<JobDetails>('/hosts/local/pools/here/volumes/v/migrate', {
        ...{ target: to, withSnapshots: true, limitBytesPerSecond: 8 * MIB },
      });
      await until('some has gone', async () => {
        const { wireBytes } = await controller.api<JobDetails>(`/jobs/${job.id}`);
        return wireBytes > 0;
      });
      await controller.kill();
      await controller.restart();
      assert.equal((await controller.ended(job.id)).state, 'done');
      const moved = await volumeAt('there');
      assert.deepEqual([moved.id, moved.notes, moved.snapshotCount], [id, 'of the accounts', 2]);
      assert.ok(readFileSync(moved.path).equals(monday));
      await controller.cliRefused('volume-not-found', 'vol', 'show', from);
      for (const name of ['here', 'there'])
        assert.deepEqual(readdirSync(at(`${name}/pool/.stowage/streams`)), [], name);
      await controller.cliOk('vol', 'download', to, at('one'), '--snapshot', 'one');
      assert.ok(readFileSync(at('one')).equals(monday));

      // What is given up leaves the source as it was.
      const cancelled = await controller.api<JobDetails>('/hosts/local/pools/there/volumes/v/migrate', {
        ...{ target: from, withSnapshots: true, limitBytesPerSecond: MIB },
      });
      await until('some has gone', async () => {
        const { wireBytes } = await controller.api<JobDetails>(`/jobs/${cancelled.id}`);
        return wireBytes > 0;
      });
      await controller.cliOk('job', 'cancel', String(cancelled.id));
      assert.equal((await controller.ended(cancelled.id)).state, 'cancelled');
      assert.deepEqual(await idsOf(to), ['one', 'two']);
      await controller.cliRefused('volume-not-found', 'vol', 'show', from);
    } finally {
      for (const name of ['here', 'there']) await controller.cli('pool', 'stop', `local/${name}`);
    }
  });

  test('is begun with by a linked clone, of any volume', onlyRoot, async () => {
    mkdirSync(at('mount'));
    await using _mounted = mountFileSystem('btrfs', 256, at('mount'));
    const made = ['pool', 'create-as', 'local', 'tree', 'btrfs', '--target', at('mount/pool'), '--build'];
    await controller.cliOk(...made);
    try {
      await controller.cliOk(
        'vol',
        'copy',
        SOURCE,
        'local/tree/vm-100-disk-0.raw',
        '--snapshot',
        'monday',
        '--format',
        'raw',
      );
      const source = 'local/tree/vm-100-disk-0.raw';
      await controller.cliOk('vol', 'snapshot', 'create', source, 'then');
      await controller.cliRefused('invalid-argument', 'vol', 'clone', source, 'c', '--snapshot', 'then');
      await controller.cliRefused('invalid-argument', 'vol', 'clone', source, 'c', '--linked');
      await controller.cliRefused(
        'snapshot-not-found',
        'vol',
        'clone',
        source,
        'c',
        '--linked',
        '--snapshot',
        'no',
      );
      await controller.cliOk('vol', 'clone', source, 'c', '--linked', '--snapshot', 'then');
      const { path } = await controller.api<FleetVolume>('/hosts/local/pools/tree/volumes/c');
      assert.ok(readFileSync(path).equals(monday));
      await controller.cliRefused('invalid-argument', 'image', 'clone', source, '101');
      const told = await controller.cliOk('image', 'clone', source, '101', '--snapshot', 'then');
      assert.match(
        told,
        /^local\/tree\/vm-101-disk-0.raw is a linked clone of local\/tree\/vm-100-disk-0.raw as of then/,
      );
      const trail = await controller.cliOk('audit', 'list', '--action', 'image.clone');
      assert.match(trail, /for guest 101, as of then/);
      await controller.cliRefused(
        'not-supported',
        'vol',
        'clone',
        SOURCE,
        'c',
        '--linked',
        '--snapshot',
        'monday',
      );
    } finally {
      await controller.cliOk('pool', 'stop', 'local/tree');
    }
  });

  test('what cannot be is refused before anything is made', async () => {
    const to = at('nothing');
    const of = (id: string): string[] => ['vol', 'download', SOURCE, to, '--snapshot', id];
    await controller.cliRefused('snapshot-not-found', ...of('friday'));
    await controller.cliRefused('not-supported', ...of('monday'), '--as', 'image');
    await controller.cliRefused('invalid-argument', ...of('x'.repeat(65)));
    await controller.cliOk('vol', 'create', 'local/default/raw', '--capacity', '1M', '--format', 'raw');
    await controller.cliRefused(
      'not-supported',
      'vol',
      'download',
      'local/default/raw',
      to,
      '--snapshot',
      'x',
    );
    await controller.cliRefused('not-supported', 'vol', 'snapshot', 'rename', SOURCE, 'monday', 'sunday');
    const copy = ['vol', 'copy', SOURCE, 'local/other/never', '--snapshot', 'friday'];
    await controller.cliRefused('snapshot-not-found', ...copy);
    assert.match((await controller.cli(...copy, '--dry-run')).stdout, /snapshot-not-found/);
    await assert.rejects(
      controller.api('/hosts/local/pools/default/volumes/web/migrate', {
        ...{ target: 'local/other/never', snapshot: 'monday' },
      }),
      /copied, not moved/,
    );
    assert.ok(!(await controller.cliOk('vol', 'list', 'local/other')).includes('never'));
  });

  test('the trail says which', async () => {
    const trail = await controller.cliOk('audit', 'list', '--limit', '500');
    assert.match(trail, /volume\.download.*content, at the snapshot monday/);
    assert.match(trail, /copied to local\/other\/copy, as at the snapshot monday/);
  });
});
