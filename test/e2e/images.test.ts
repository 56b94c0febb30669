import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Image, JobDetails } from '../../shared/protocol/api.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { startHost, type TestHost } from '../support/hosts.ts';
import { isRoot, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;
const RACES = Number(process.env.STOWAGE_CLONE_RACES ?? 15);

describe('images of guests, by the rules of Proxmox VE', () => {
  const room = scratch();
  const guests = join(room.path, 'guests');
  let controller: TestController;
  const images = (query = ''): Promise<Image[]> => controller.api<Image[]>(`/images${query}`);
  const names = async (query?: string): Promise<string[]> => (await images(query)).map(({ name }) => name);
  const allocate = (vmid: number, json: object = {}, pool = 'hosts/local/pools/default'): Promise<Image> =>
    controller.api<Image>(`/${pool}/images`, { vmid, sizeBytes: 4 * MIB, ...json });

  before(async () => {
    mkdirSync(join(guests, 'etc/pve/qemu-server'), { recursive: true });
    controller = await TestController.start(join(room.path, 'data'), [], { STOWAGE_GUESTS_ROOT: guests });
    await until('the local host is there', async () =>
      (await controller.cliOk('host', 'list')).includes('reachable'),
    );
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('an image has the next name, the size that was asked for at least, and what list_images tells', async () => {
    const first = await allocate(100, { format: 'qcow2', sizeBytes: 4 * MIB + 1 });
    assert.equal(first.name, 'vm-100-disk-0.qcow2');
    assert.equal(first.volid, 'default:100/vm-100-disk-0.qcow2');
    assert.equal(first.sizeBytes, 4 * MIB + 1024);
    assert.ok(Math.abs(first.createdAt! - Date.now()) < 60_000);
    assert.equal((await allocate(100)).name, 'vm-100-disk-1.raw');
    assert.equal((await allocate(100, { name: 'vm-100-cloudinit.qcow2' })).format, 'qcow2');
    assert.equal((await allocate(1001)).name, 'vm-1001-disk-0.raw', 'another guest, another count');
    assert.deepEqual(await names('?vmid=100'), [
      'vm-100-cloudinit.qcow2',
      'vm-100-disk-0.qcow2',
      'vm-100-disk-1.raw',
    ]);
    // The list of ids wins over the guest.
    assert.deepEqual(
      await names(`?vmid=100&volids=${encodeURIComponent('default:1001/vm-1001-disk-0.raw')}`),
      ['vm-1001-disk-0.raw'],
    );
    assert.deepEqual(await names('?vmid=100&limit=1&after=local/default/vm-100-disk-0.qcow2'), [
      'vm-100-disk-1.raw',
    ]);
  });

  test('QEMU opens an image as it is told to', async () => {
    const told = await controller.cliOk(
      'vol',
      'blockdev',
      'local/default/vm-100-disk-0.qcow2',
      '--node-name',
      'd0',
    );
    const node = JSON.parse(told) as Record<string, unknown>;
    assert.equal(node['node-name'], 'd0');
    const { stdout } = await execute('qemu-img', ['info', '--output=json', `json:${JSON.stringify(node)}`]);
    assert.equal(JSON.parse(stdout)['virtual-size'], 4 * MIB + 1024);
    await controller.cliRefused('volume-not-found', 'vol', 'blockdev', 'local/default/no');
    await controller.cliRefused(
      ...['invalid-argument', 'vol', 'blockdev', 'local/default/vm-100-disk-0.qcow2', '--node-name', '9 x'],
    );
  });

  test('what is no image of the guest is refused before anything is made', async () => {
    const before = await names();
    for (const [code, json] of [
      ['invalid-name', { vmid: 100, name: 'vm-101-disk-0.raw' }],
      ['invalid-name', { vmid: 100, name: 'base-100-disk-7.raw' }],
      ['invalid-name', { vmid: 100, name: 'web' }],
      ['invalid-argument', { vmid: 100, name: 'vm-100-disk-7.qcow2', format: 'raw' }],
      ['not-supported', { vmid: 100, name: 'subvol-100-disk-7.subvol' }],
      ['invalid-argument', { vmid: 99 }],
      ['invalid-argument', { vmid: 100, sizeBytes: 0 }],
      ['volume-exists', { vmid: 100, name: 'vm-100-disk-1.raw' }],
    ] as const) {
      const answer = await controller.fetch('/hosts/local/pools/default/images', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ sizeBytes: MIB, ...json }),
      });
      assert.equal(((await answer.json()) as { code: string }).code, code, JSON.stringify(json));
    }
    assert.deepEqual(await names(), before);
  });

  test('a number that anything may still mean a disk by is not given again', async () => {
    assert.equal((await allocate(110)).name, 'vm-110-disk-0.raw');
    // Deleted: the trail remembers it. In the trash: it may come back. In a guest's configuration: it is waited for.
    await controller.cliOk('image', 'free', 'local/default/vm-110-disk-0.raw', '--yes');
    assert.equal((await allocate(110)).name, 'vm-110-disk-1.raw');
    await controller.cliOk('vol', 'rename', 'local/default/vm-110-disk-1.raw', 'vm-110-disk-3.raw');
    await controller.cliOk('vol', 'delete', 'local/default/vm-110-disk-3.raw', '--trash');
    writeFileSync(
      join(guests, 'etc/pve/storage.cfg'),
      `dir: local\n\tdisable\n\ndir: default\n\tpath ${join(room.path, 'data/pools/default')}\n\tcontent images\n`,
    );
    writeFileSync(
      join(guests, 'etc/pve/qemu-server/110.conf'),
      'name: web\nscsi0: default:110/vm-110-disk-2.raw,size=4M\n',
    );
    await until('the guest is known', async () =>
      (await controller.cliOk('domain', 'list', '--columns', 'domain')).includes('110'),
    );
    assert.equal((await allocate(110)).name, 'vm-110-disk-4.raw');
  });

  test('who may do nothing there takes no numbers from a guest', async () => {
    const token = (
      await controller.cliOk('token', 'create', 'other', '--role', 'operator', '--scope', 'local/other')
    ).match(/stow_\S+/)![0];
    for (let number = 0; number < 3; number++) {
      const refused = await controller.fetch(`/hosts/local/pools/default/images/vm-115-disk-${number}.raw`, {
        method: 'DELETE',
        token,
      });
      assert.equal(refused.status, 403);
      await controller.cliRefused(
        'volume-not-found',
        'image',
        'free',
        `local/default/vm-115-disk-${number}.raw`,
        '--yes',
      );
    }
    assert.equal((await allocate(115)).name, 'vm-115-disk-0.raw');
  });

  test('a base and its clones, from the command line and by volume ids', async () => {
    const content = randomBytes(2 * MIB);
    writeFileSync(join(room.path, 'disk'), content);
    await controller.cliOk('vol', 'upload', join(room.path, 'disk'), 'local/default/vm-900-disk-0.raw');
    assert.match(
      await controller.cliRefused(
        'invalid-argument',
        'image',
        'clone',
        'local/default/vm-900-disk-0.raw',
        '901',
      ),
      /is no base/,
    );
    await controller.cliOk('image', 'base', 'local/default/vm-900-disk-0.raw');
    for (const vmid of ['901', '902'])
      await controller.cliOk('image', 'clone', 'local/default/base-900-disk-0.raw', vmid);
    const clone = (await images('?vmid=901'))[0]!;
    assert.equal(clone.volid, 'default:900/base-900-disk-0.raw/901/vm-901-disk-0.qcow2');
    assert.equal(clone.parent, 'base-900-disk-0.raw');
    const refused = await controller.cliRefused(
      'volume-has-clones',
      ...['image', 'free', 'local/default/base-900-disk-0.raw', '--yes'],
    );
    assert.match(refused, /vm-901-disk-0.qcow2, local\/default\/vm-902-disk-0.qcow2/);
    await controller.cliRefused('volume-is-base', 'image', 'base', 'local/default/base-900-disk-0.raw');
    await controller.cliOk('pvesm', 'export', clone.volid, 'raw+size', join(room.path, 'stream'));
    const stream = readFileSync(join(room.path, 'stream'));
    assert.equal(Number(stream.readBigUInt64LE()), 2 * MIB);
    assert.ok(stream.subarray(8).equals(content));
    assert.equal(
      (await controller.cli('pvesm', 'export', clone.volid, 'raw+size', join(room.path, 'stream'))).status,
      255,
      'a file that is there stays',
    );
    assert.ok(readFileSync(join(room.path, 'stream')).equals(stream));
    for (const vmid of ['901', '902'])
      await controller.cliOk('image', 'free', `local/default/vm-${vmid}-disk-0.qcow2`, '--yes');
    await controller.cliOk('image', 'free', 'local/default/base-900-disk-0.raw', '--yes');
  });

  test('a disk of VMware comes as it is, is read as what a guest sees of it, and goes back', async () => {
    const at = (name: string): string => join(room.path, name);
    const content = Buffer.concat([randomBytes(MIB), Buffer.alloc(3 * MIB), randomBytes(MIB)]);
    writeFileSync(at('disk.raw'), content);
    const packed = ['-O', 'vmdk', '-o', 'subformat=streamOptimized'];
    await execute('qemu-img', ['convert', '-f', 'raw', ...packed, at('disk.raw'), at('disk.vmdk')]);
    const stream = (path: string): Buffer => {
      const bytes = readFileSync(path);
      const header = Buffer.alloc(8);
      header.writeBigUInt64LE(BigInt(bytes.length));
      return Buffer.concat([header, bytes]);
    };
    writeFileSync(at('vmdk.stream'), stream(at('disk.vmdk')));
    const volid = 'default:140/vm-140-disk-0.vmdk';
    assert.match(
      await controller.cliOk('pvesm', 'import', volid, 'vmdk+size', at('vmdk.stream')),
      /vm-140-disk-0.vmdk/,
    );
    const [image] = await images('?vmid=140');
    assert.deepEqual([image!.format, image!.sizeBytes], ['vmdk', content.length]);
    await controller.cliOk('pvesm', 'export', volid, 'vmdk+size', at('back'), '--with-snapshots', '1');
    assert.ok(readFileSync(at('back')).equals(readFileSync(at('vmdk.stream'))));
    await controller.cliOk(
      'vol',
      'copy',
      'local/default/vm-140-disk-0.vmdk',
      'local/default/vm-140-disk-1.qcow2',
      '--format',
      'qcow2',
    );
    for (const from of [volid, 'default:140/vm-140-disk-1.qcow2']) {
      await controller.cliOk('pvesm', 'export', from, 'raw+size', at(`out-${from.slice(-5)}`));
      assert.ok(
        readFileSync(at(`out-${from.slice(-5)}`))
          .subarray(8)
          .equals(content),
        from,
      );
    }
    // One that stands on another would make the host read that.
    const child = ['-b', at('disk.vmdk'), '-F', 'vmdk', at('child.vmdk')];
    await execute('qemu-img', ['create', '-q', '-f', 'vmdk', ...child]);
    writeFileSync(at('child.stream'), stream(at('child.vmdk')));
    const refused = await controller.cli(
      'pvesm',
      'import',
      'default:141/vm-141-disk-0.vmdk',
      'vmdk+size',
      at('child.stream'),
    );
    assert.equal(refused.status, 255);
    assert.match(refused.stderr, /stands on another/);
    assert.deepEqual(await names('?vmid=141'), []);
    for (const name of await names('?vmid=140'))
      await controller.cliOk('image', 'free', `local/default/${name}`, '--yes');
  });

  test('an image is given to another guest, and is the same image; not under its clones', async () => {
    const { name, id } = await allocate(160);
    await allocate(161);
    await controller.cliOk('image', 'assign', `local/default/${name}`, '161');
    const [, given] = await images('?vmid=161');
    assert.deepEqual([given!.name, given!.id], ['vm-161-disk-1.raw', id]);
    assert.deepEqual(await names('?vmid=160'), []);
    await controller.cliOk('image', 'base', 'local/default/vm-161-disk-1.raw');
    await controller.cliOk('image', 'assign', 'local/default/base-161-disk-1.raw', '162');
    await controller.cliOk('image', 'clone', 'local/default/base-162-disk-0.raw', '163');
    await controller.cliRefused(
      'volume-has-clones',
      'image',
      'assign',
      'local/default/base-162-disk-0.raw',
      '164',
    );
  });

  test('what pvesm prints, and how it fails', async () => {
    await allocate(120, { name: 'vm-120-disk-0.qcow2', sizeBytes: 8 * MIB });
    writeFileSync(join(room.path, 'cd'), randomBytes(2048));
    await controller.cliOk('vol', 'upload', join(room.path, 'cd'), 'local/default/tools.iso');
    assert.match(
      await controller.cliOk('pvesm', 'status'),
      /^Name +Type +Status +Total +Used +Available +%\ndefault +dir +active +\d+ +\d+ +\d+ +\d+\.\d\d%\n$/,
    );
    assert.equal(
      await controller.cliOk('pvesm', 'list', 'default', '--vmid', '120'),
      'Volid                           Format  Type         Size VMID\n' +
        'default:120/vm-120-disk-0.qcow2 qcow2   images    8388608 120\n',
    );
    assert.match(
      await controller.cliOk('pvesm', 'list', 'default', '--content', 'iso'),
      /default:iso\/tools.iso +raw +iso +2048\n/,
    );
    assert.equal(
      await controller.cliOk('pvesm', 'path', 'default:120/vm-120-disk-0.qcow2'),
      `${join(room.path, 'data/pools/default')}/vm-120-disk-0.qcow2\n`,
    );
    assert.equal(
      await controller.cliOk('pvesm', 'alloc', 'default', '121', '', '4096'),
      "successfully created 'default:121/vm-121-disk-0.raw'\n",
    );
    assert.equal(
      await controller.cliOk('pvesm', 'free', 'default:121/vm-121-disk-0.raw'),
      "Removed volume 'default:121/vm-121-disk-0.raw'\n",
    );
    for (const [words, ...args] of [
      [
        /^storage 'nosuch' does not exist, or is no pool of this node: .*host doctor local.*\n$/,
        'list',
        'nosuch',
      ],
      [/no name of a volume/, 'path', 'default:vm-1'],
      [/no volume id/, 'free', 'vm-100-disk-0'],
      [/does not exist/, 'free', 'default:120/vm-120-disk-9.raw'],
      // All of an id counts, not the end of it.
      [/does not exist/, 'free', 'default:777/vm-120-disk-0.qcow2'],
      [/does not exist/, 'free', 'default:120/base-120-disk-9.raw/120/vm-120-disk-0.qcow2'],
      [
        /never carries snapshots/,
        'export',
        'default:120/vm-120-disk-0.qcow2',
        'raw+size',
        '-',
        '-with-snapshots',
        '1',
      ],
      [
        /carries snapshots/,
        'export',
        'default:120/vm-120-disk-0.qcow2',
        'qcow2+size',
        '-',
        '-with-snapshots',
        '0',
      ],
      [/does not exist/, 'status', '--storage', 'nosuch'],
      [/makes no raw volume/, 'import', 'default:120/vm-120-disk-5.raw', 'qcow2+size', '/dev/null'],
      [/not made or read here/, 'export', 'default:120/vm-120-disk-0.qcow2', 'tar+size', '-'],
      [/cannot export/, 'export', 'default:iso/tools.iso', 'qcow2+size', '-', '--with-snapshots', '1'],
    ] as [RegExp, ...string[]][]) {
      const { status, stdout, stderr } = await controller.cli('pvesm', ...args);
      assert.deepEqual([status, stdout], [255, ''], args.join(' '));
      assert.match(stderr, words);
    }
  });

  test('a stream that was cut, or that lies about its size, makes nothing', async () => {
    const content = randomBytes(MIB);
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(BigInt(MIB));
    const whole = Buffer.concat([header, content]);
    const path = join(room.path, 'in');
    const imported = (...more: string[]) =>
      controller.cli('pvesm', 'import', 'default:130/vm-130-disk-0.raw', 'raw+size', path, ...more);
    for (const bytes of [
      whole.subarray(0, 4),
      whole.subarray(0, 8),
      whole.subarray(0, -1),
      Buffer.concat([whole, content]),
    ]) {
      writeFileSync(path, bytes);
      for (const more of [[], ['--allow-rename', '1']]) assert.equal((await imported(...more)).status, 255);
    }
    assert.deepEqual(await names('?vmid=130'), []);
    writeFileSync(path, whole);
    assert.match((await imported()).stdout, /successfully imported 'default:130\/vm-130-disk-0.raw'/);
    // One that is there is not written over, and lends its name to nobody.
    assert.equal((await imported()).status, 255);
    for (const bytes of [whole.subarray(0, -1), Buffer.concat([whole, content])]) {
      writeFileSync(path, bytes);
      assert.equal((await imported('--allow-rename', '1')).status, 255);
    }
    assert.deepEqual(await names('?vmid=130'), ['vm-130-disk-0.raw']);
    writeFileSync(path, whole);
    // The name says which format it gets.
    const qcow2 = 'default:131/vm-131-disk-0.qcow2';
    await controller.cliOk('pvesm', 'import', qcow2, 'raw+size', path);
    assert.equal((await images('?vmid=131'))[0]!.format, 'qcow2');
    await controller.cliOk('pvesm', 'export', qcow2, 'raw+size', join(room.path, 'again'));
    assert.ok(readFileSync(join(room.path, 'again')).equals(whole));
    const { stdout } = await imported('--allow-rename', '1');
    const [, name] = /default:130\/(vm-130-disk-\d+.raw)/.exec(stdout) ?? [];
    assert.notEqual(name, 'vm-130-disk-0.raw');
    const data = await controller.fetch(`/hosts/local/pools/default/volumes/${name}/data`);
    assert.ok(Buffer.from(await data.arrayBuffer()).equals(content));
  });

  test('an import that is interrupted leaves nothing', async () => {
    const content = randomBytes(MIB);
    const header = Buffer.alloc(8);
    header.writeBigUInt64LE(BigInt(MIB));
    const path = join(room.path, 'whole');
    writeFileSync(path, Buffer.concat([header, content]));
    const words = ['pvesm', 'import', 'default:132/vm-132-disk-0.raw', 'raw+size'];
    const begun = async (signal: NodeJS.Signals, ...more: string[]): Promise<number | null> => {
      const jobs = (): Promise<JobDetails[]> => controller.api<JobDetails[]>('/jobs');
      const before = new Set((await jobs()).map(({ id }) => id));
      const command = controller.spawnCli(...words, '-', ...more);
      // It is ended in the middle of what is written to it.
      command.stdin.on('error', () => undefined);
      command.stdin.write(Buffer.concat([header, content.subarray(0, MIB / 2)]));
      await until('the upload is begun', async () =>
        (await jobs()).some(({ id, state }) => state === 'running' && !before.has(id)),
      );
      const ended = once(command, 'exit');
      command.kill(signal);
      const [status] = await ended;
      command.stdin.destroy();
      return status;
    };
    assert.equal(await begun('SIGTERM'), 255);
    assert.deepEqual(await names('?vmid=132'), []);
    await controller.cliOk(...words, path);
    assert.equal(await begun('SIGHUP', '--allow-rename', '1'), 255);
    assert.equal(await begun('SIGINT', '--allow-rename', '1'), 255);
    assert.deepEqual(await names('?vmid=132'), ['vm-132-disk-0.raw']);
    assert.match(await controller.cliOk('pvesm', 'apiinfo'), /^APIVER \d+\nAPIAGE \d+\n$/);
  });

  test('a controller that is killed while it makes a base goes on, and makes it', async () => {
    for (let round = 0; round < 4; round++) {
      const name = `vm-14${round}-disk-0.raw`;
      await allocate(Number(`14${round}`), { name });
      const job = await controller.api<JobDetails>(`/hosts/local/pools/default/images/${name}/base`, {});
      await sleep(round * 8);
      await controller.kill();
      await controller.restart();
      await until('the base is made', async () => {
        const { state, error } = await controller.api<JobDetails>(`/jobs/${job.id}`);
        assert.notEqual(state, 'failed', JSON.stringify(error));
        return state === 'done';
      });
      const [image, ...more] = await until('it is listed', async () => {
        const found = await images(`?vmid=14${round}`);
        return found[0]?.isBase && found;
      });
      assert.equal(image!.name, `base-14${round}-disk-0.raw`);
      assert.deepEqual(more, []);
    }
  });

  test(`of a clone and a free of one base at once one wins, ${RACES} times, and no clone stands on nothing`, async () => {
    for (let round = 0; round < RACES; round++) {
      const name = `vm-150-disk-${round}.raw`;
      await allocate(150, { name, sizeBytes: MIB });
      const base = `base-150-disk-${round}.raw`;
      const path = '/hosts/local/pools/default/volumes';
      await controller.api(`${path}/${name}/rename`, { name: base });
      await controller.api(`${path}/${base}/base`, { isBase: true }, 'PUT');
      const at = `/hosts/local/pools/default/images/${base}`;
      const clone = async () =>
        controller.fetch(`${at}/clone`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ vmid: 151 }),
        });
      const free = () => controller.fetch(at, { method: 'DELETE' });
      const [cloned, freed] = await Promise.all(
        round % 2 === 0
          ? [clone(), sleep(Math.random() * 4).then(free)]
          : [sleep(Math.random() * 4).then(clone), free()],
      );
      const isThere = (await names('?vmid=150')).includes(base);
      assert.equal(isThere, !freed.ok, `round ${round}`);
      if (!cloned.ok) {
        const { code } = (await cloned.json()) as { code: string };
        assert.match(code, /^volume-(not-found|in-use)$/, `round ${round}`);
        continue;
      }
      assert.ok(isThere, `round ${round}: its base is gone`);
      const made = (await cloned.json()) as Image;
      assert.ok((await controller.fetch(`${path}/${made.name}/data?as=content`)).ok, `round ${round}`);
      await controller.cliOk('image', 'free', `local/default/${made.name}`, '--yes');
    }
  });
});

describe('images on storage that three hosts share', { skip: isRoot ? false : 'mounts need root' }, () => {
  const room = scratch();
  const hosts: TestHost[] = [];
  let controller: TestController;

  before(async () => {
    controller = await TestController.start(join(room.path, 'controller'));
    for (const name of ['one', 'two', 'three']) hosts.push(await startHost(join(room.path, name)));
    const [server] = hosts;
    mkdirSync(join(room.path, 'export'));
    for (const host of hosts) {
      const { address, port, identity, name, user, fingerprint } = host;
      await controller.cliOk(
        ...['host', 'add', name, `ssh://${user}@${address}:${port}`, '--identity', identity],
        ...['--fingerprint', fingerprint],
      );
      await controller.api(`/hosts/${name}/pools`, {
        name: 'shared',
        type: 'netfs',
        target: { path: join(room.path, `mounted-${name}`) },
        source: { hosts: [{ name: server!.address }], dir: join(room.path, 'export'), format: 'sshfs' },
        mountOptions: [
          `port=${server!.port}`,
          `IdentityFile=${server!.identity}`,
          'StrictHostKeyChecking=no',
          'UserKnownHostsFile=/dev/null',
          'dir_cache=no',
          'attr_timeout=0',
        ],
      });
      await controller.cliOk(
        'pool',
        'create-as',
        name,
        'own',
        'dir',
        '--target',
        join(room.path, `own-${name}`),
        '--build',
      );
      await until(`${name}/shared runs`, async () =>
        (await controller.cliOk('pool', 'list', name)).includes('running'),
      );
    }
  });
  after(async () => {
    for (const host of hosts) {
      await controller.cli('pool', 'stop', `${host.name}/shared`);
      await host[Symbol.asyncDispose]();
    }
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('three pools are one storage: their images are listed once, and a lease of one host is in the way of all', async () => {
    const pool = JSON.parse(await controller.cliOk('pool', 'show', `${hosts[1]!.name}/shared`, '-o', 'json'));
    assert.deepEqual(pool.sameStorage, [`${hosts[0]!.name}/shared`, `${hosts[2]!.name}/shared`]);
    const made = await controller.api<Image>(`/hosts/${hosts[1]!.name}/pools/shared/images`, {
      vmid: 300,
      sizeBytes: 16 * MIB,
    });
    for (const host of hosts)
      await until(`${host.name} sees it`, async () => {
        await controller.cliOk('pool', 'refresh', `${host.name}/shared`);
        return (await controller.cliOk('vol', 'list', `${host.name}/shared`)).includes(made.name);
      });
    const listed = await controller.api<Image[]>('/images?vmid=300');
    assert.deepEqual(
      listed.map(({ host }) => host),
      [hosts[0]!.name],
    );
    // An upload on one host holds it while another one wants to delete it.
    let isOver = false;
    const body = new ReadableStream({
      async pull(stream) {
        await sleep(100);
        if (isOver) stream.close();
        else stream.enqueue(new Uint8Array(65_536));
      },
    });
    const stop = new AbortController();
    const slow = controller
      .fetch(`/hosts/${hosts[2]!.name}/pools/shared/volumes/${made.name}/data?format=raw`, {
        method: 'PUT',
        body,
        signal: stop.signal,
        duplex: 'half',
        headers: { 'content-range': `bytes 0-${16 * MIB - 1}/${16 * MIB}` },
      } as RequestInit)
      .catch(() => undefined);
    const [first] = hosts;
    const held = await until(
      'it is held',
      async () =>
        (await controller.cliOk('pool', 'locks', `${first!.name}/shared`)).includes(made.name) &&
        controller.cliOk('pool', 'locks', `${first!.name}/shared`),
    );
    assert.match(held, new RegExp(`${hosts[2]!.name}/shared/${made.name} +write .*upload`));
    const refused = await controller.cliRefused(
      'volume-in-use',
      ...['image', 'free', `${first!.name}/shared/${made.name}`, '--yes'],
    );
    assert.match(refused, /job \d+ \(upload/);
    isOver = true;
    stop.abort();
    await slow;
  });

  test('a base on one host is not taken from under a clone that another host has made', async () => {
    const [one, two] = hosts.map(({ name }) => name);
    const made = await controller.api<Image>(`/hosts/${one}/pools/shared/images`, {
      vmid: 400,
      sizeBytes: MIB,
    });
    await controller.cliOk('image', 'base', `${one}/shared/${made.name}`);
    const base = made.name.replace('vm-', 'base-');
    await controller.cliOk('pool', 'refresh', `${two}/shared`);
    await until('the other host sees it', async () =>
      (await controller.cliOk('image', 'list', `${two}/shared`)).includes(base),
    );
    await controller.cliOk('image', 'clone', `${two}/shared/${base}`, '401');
    for (const words of [
      ['vol', 'delete', `${one}/shared/${base}`, '--yes', '--allow-used'],
      ['vol', 'rename', `${one}/shared/${base}`, 'other', '--allow-used'],
      ['vol', 'base', '--undo', `${one}/shared/${base}`, '--allow-used'],
    ])
      assert.match(await controller.cliRefused('volume-has-clones', ...words), /vm-401-disk-0.qcow2/);
  });

  test('allocations for one guest in two pools at once get different numbers', async () => {
    const all = await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        controller.api<Image>(
          `/hosts/${hosts[index % 3]!.name}/pools/${index % 2 ? 'shared' : 'own'}/images`,
          {
            vmid: 500,
            sizeBytes: 65_536,
          },
        ),
      ),
    );
    assert.equal(new Set(all.map(({ name }) => name)).size, 24);
  });

  test('50 at once for one guest get 50 names, and none again after all are freed', async () => {
    const allocateAll = async (): Promise<Image[]> =>
      Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          controller.api<Image>(`/hosts/${hosts[index % 3]!.name}/pools/shared/images`, {
            vmid: 100,
            sizeBytes: 65_536,
          }),
        ),
      );
    const first = await allocateAll();
    const firstNames = new Set(first.map(({ name }) => name));
    assert.equal(firstNames.size, 50);
    await Promise.all(
      first.map(async ({ host, name }) => {
        const freed = await controller.fetch(`/hosts/${host}/pools/shared/images/${name}`, {
          method: 'DELETE',
        });
        assert.ok(freed.ok, await freed.text());
      }),
    );
    const second = await allocateAll();
    assert.equal(new Set(second.map(({ name }) => name)).size, 50);
    assert.deepEqual(
      second.filter(({ name }) => firstNames.has(name)),
      [],
    );
  });
});
