import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import type { FleetEvent } from '../../shared/protocol/api.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';
import { domainWith } from '../support/virsh.ts';

const uuid = (last: number): string => `c7a5fdbd-edaf-9455-926a-d65c16db180${last}`;

/** Domains that use volumes, defined and found, against `npm start`'s own controller with its local agent. */
describe('domains as users of volumes', () => {
  const room = scratch();
  let controller: TestController;
  let pool: string;
  const guests = join(room.path, 'guests');
  const file = (name: string, text: string): string => {
    writeFileSync(join(room.path, name), text);
    return join(room.path, name);
  };
  const refused = (code: string, ...args: string[]): Promise<string> => controller.cliRefused(code, ...args);

  before(async () => {
    mkdirSync(join(guests, 'etc/libvirt/qemu'), { recursive: true });
    controller = await TestController.start(join(room.path, 'data'), [], { STOWAGE_GUESTS_ROOT: guests });
    pool = join(room.path, 'data/pools/default');
    for (const name of ['web.img', 'db.img', 'free.img'])
      await controller.cliOk('vol', 'create', `local/default/${name}`, '--capacity', '8M');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', join(pool, 'base.qcow2'), '8M']);
    execFileSync('qemu-img', [
      ...['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', 'base.qcow2'],
      join(pool, 'top.qcow2'),
    ]);
    writeFileSync(
      join(guests, 'etc/libvirt/qemu/virsh-made.xml'),
      domainWith(
        `<disk type='file' device='disk'><driver type='qcow2'/><source file='${join(pool, 'top.qcow2')}'/><target dev='vda' bus='virtio'/></disk>`,
        { name: 'virsh-made', uuid: uuid(2) },
      ),
    );
    await controller.cliOk('pool', 'refresh', 'local/default');
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('a domain is defined by its document, given out again, and given disks', async () => {
    const volume = "<disk type='volume'><source pool='default' volume='web.img'/><target dev='vda'/></disk>";
    const document = file('web.xml', domainWith(volume, { name: 'web', uuid: uuid(1) }));
    assert.equal(
      await controller.cliOk('domain', 'define', 'local', document),
      'domain local/web is shut off\n',
    );
    const dumped = await controller.cliOk('domain', 'dumpxml', 'local/web');
    assert.match(dumped, /<source pool='default' volume='web.img'\/>\n {6}<target dev='vda' bus='virtio'\/>/);
    assert.equal(await controller.cliOk('domain', 'start', 'local/web'), 'domain local/web is running\n');
    const hot = file(
      'hot.xml',
      `<disk type='file'><source file='${join(pool, 'db.img')}'/><target dev='vdb' bus='virtio'/></disk>`,
    );
    await controller.cliOk('domain', 'attach-device', 'local/web', hot, '--live');
    assert.match(await controller.cliOk('domain', 'dumpxml', 'local/web'), /id='1'.*dev='vdb'/s);
    assert.doesNotMatch(await controller.cliOk('domain', 'dumpxml', 'local/web', '--inactive'), /vdb/);
  });

  test('what could never start is refused as it is defined, and nothing of it stays', async () => {
    const lun =
      "<disk type='volume' device='lun'><source pool='default' volume='web.img'/><target dev='sda'/></disk>";
    const document = file('lun.xml', domainWith(lun, { name: 'lun', uuid: uuid(3) }));
    assert.match(
      await refused('invalid-xml', 'domain', 'define', 'local', document),
      /unsupported configuration: disk device='lun' is only valid for block type disk source/,
    );
    const missing = file(
      'missing.xml',
      domainWith(lun.replace('web.img', 'none.img').replace("'lun'", "'disk'"), {
        name: 'lun',
        uuid: uuid(3),
      }),
    );
    assert.match(
      await refused('volume-not-found', 'domain', 'define', 'local', missing),
      /Storage volume not found: no storage vol with matching name 'none.img'/,
    );
    assert.doesNotMatch(await controller.cliOk('domain', 'list'), /local\/lun/);
  });

  test('who may not define a domain is refused before its document is read', async () => {
    const viewer = (await controller.cliOk('token', 'create', 'looks', '--role', 'viewer')).trim();
    const answer = await execute('curl', [
      ...['-sS', '-X', 'POST', '-H', `authorization: Bearer ${viewer}`],
      ...['-H', 'content-type: application/xml', '--data', '<not a document'],
      `${controller.url}/api/v1/hosts/local/domains`,
    ]);
    assert.equal(JSON.parse(answer.stdout).code, 'forbidden', answer.stdout);
  });

  test('secrets in a document are given out to those who may have them, on record', async () => {
    const cookie =
      "<disk type='network'><source protocol='http' name='x'><host name='h'/><cookies><cookie name='c'>s3cr3t</cookie></cookies></source><target dev='vda' bus='virtio'/></disk>";
    await controller.cliOk(
      'domain',
      'define',
      'local',
      file('cookie.xml', domainWith(cookie, { name: 'cookie', uuid: uuid(4) })),
    );
    assert.doesNotMatch(await controller.cliOk('domain', 'dumpxml', 'local/cookie'), /s3cr3t/);
    assert.match(await controller.cliOk('domain', 'dumpxml', 'local/cookie', '--security-info'), /s3cr3t/);
    const viewer = (await controller.cliOk('token', 'create', 'peeks', '--role', 'viewer')).trim();
    const { stdout, stderr } = await controller.cliAs(
      viewer,
      'domain',
      'dumpxml',
      'local/cookie',
      '--security-info',
    );
    assert.match(stderr, /\[forbidden\]/);
    assert.doesNotMatch(stdout, /s3cr3t/);
    const trail = await controller.cliOk('audit', 'list');
    assert.match(trail, /domain\.define +local\/cookie/);
    assert.match(trail, /domain\.read-secrets +local\/cookie/);
    assert.doesNotMatch(trail + controller.log, /s3cr3t/);
    await controller.cliOk('domain', 'undefine', 'local/cookie');
  });

  test('the list names those of libvirt too, which are changed where they are kept', async () => {
    const list = await controller.cliOk('domain', 'list', 'local');
    assert.match(list, /local\/web +stowage +running +vda=default\/web.img vdb=\S+db.img/);
    assert.match(list, /local\/virsh-made +libvirt +shut off +vda=\S+top.qcow2/);
    assert.match(
      await refused('not-supported', 'domain', 'undefine', 'local/virsh-made'),
      /domain 'virsh-made' is libvirt's own/,
    );
    await refused('domain-not-found', 'domain', 'dumpxml', 'local/nobody');
  });

  test('a volume names its users, also those that reach it through a chain', async () => {
    assert.match(
      await controller.cliOk('vol', 'show', 'local/default/web.img'),
      /used by +web \(running\) as vda\n/,
    );
    assert.match(
      await controller.cliOk('vol', 'show', 'local/default/base.qcow2'),
      /used by +virsh-made \(libvirt, shut off\) as vda through default\/top.qcow2\n/,
    );
    assert.doesNotMatch(await controller.cliOk('vol', 'show', 'local/default/free.img'), /used by/);
  });

  test('a used volume is not deleted, wiped, shrunk or moved; one that is free is', async () => {
    mkdirSync(join(room.path, 'second'));
    await controller.cliOk(
      'pool',
      'create',
      'local/second',
      '--type',
      'dir',
      '--target',
      join(room.path, 'second'),
    );
    const users = /volume 'default\/web.img' is used by domain 'web' \(running\) as vda/;
    assert.match(await refused('volume-used', 'vol', 'delete', 'local/default/web.img'), users);
    assert.match(
      await refused('volume-used', 'vol', 'resize', 'local/default/web.img', '4M', '--shrink'),
      users,
    );
    assert.match(await refused('volume-used', 'vol', 'wipe', 'local/default/web.img'), users);
    assert.match(
      await refused('volume-used', 'vol', 'migrate', 'local/default/web.img', 'local/second'),
      users,
    );
    assert.match(
      await refused('volume-used', 'vol', 'delete', 'local/default/base.qcow2'),
      /virsh-made.*through default\/top.qcow2; volume default\/top.qcow2, which stands on it/,
    );
    // What takes nothing away is free to be done.
    await controller.cliOk('vol', 'resize', 'local/default/web.img', '16M');
    await controller.cliOk('vol', 'migrate', 'local/default/web.img', 'local/second', '--keep-source');
    // What a move would meet is told, and nothing is done.
    const dry = (volume: string, target: string, ...more: string[]) =>
      controller.cli('vol', 'migrate', `local/default/${volume}`, target, '--dry-run', ...more);
    const both = await dry('web.img', 'local/second');
    assert.equal(both.status, 4);
    assert.match(both.stdout, users);
    assert.match(both.stdout, /there is a volume 'local\/second\/web.img' already \[volume-exists\]/);
    assert.match(
      (await dry('web.img', 'local/second/new.img', '--keep-source')).stdout,
      /can be copied to .*stays raw/,
    );
    await controller.cliOk('vol', 'set', 'local/default/free.img', '--protected', 'on');
    assert.match((await dry('free.img', 'local/second')).stdout, /\[volume-protected\]/);
    await controller.cliOk('vol', 'set', 'local/default/free.img', '--protected', 'off');
    await controller.cliOk('pool', 'stop', 'local/second');
    assert.match((await dry('free.img', 'local/second')).stdout, /pool 'local\/second' is inactive/);
    await controller.cliOk('pool', 'start', 'local/second');
    const free = await dry('free.img', 'local/second', '--format', 'qcow2');
    assert.deepEqual([free.status, free.stderr], [0, '']);
    assert.match(free.stdout, /can be moved to local\/second: its content becomes qcow2; .* or less travel/);
    assert.match(await controller.cliOk('vol', 'list', 'local/default', '-q'), /free\.img/);
    assert.match((await dry('free.img', 'nohost/p')).stdout, /\[host-not-found\]/);
    await controller.cliOk('vol', 'migrate', 'local/default/free.img', 'local/second');
    await controller.cliOk('vol', 'delete', 'local/second/free.img');
  });

  test('a used volume is not overwritten by an upload, nor rolled back to a snapshot', async () => {
    const image = file('other.img', 'x'.repeat(8 << 20));
    assert.match(
      await refused('volume-used', 'vol', 'upload', image, 'local/default/web.img'),
      /used by domain 'web' \(running\) as vda/,
    );
    const plain = await execute('curl', [
      ...['-sS', '-T', image, '-H', `authorization: Bearer ${controller.token}`],
      `${controller.url}/api/v1/hosts/local/pools/default/volumes/web.img/data`,
    ]);
    assert.equal(JSON.parse(plain.stdout).code, 'volume-used', plain.stdout);
    await controller.cliOk('vol', 'upload', image, 'local/default/web.img', '--allow-used', '--yes');

    await controller.cliOk('vol', 'create', 'local/default/snap', '--capacity', '8M', '--format', 'qcow2');
    await controller.cliOk('vol', 'snapshot', 'create', 'local/default/snap', '--id', 'before');
    const disk = "<disk type='volume'><source pool='default' volume='snap'/><target dev='vda'/></disk>";
    await controller.cliOk(
      'domain',
      'define',
      'local',
      file('snap.xml', domainWith(disk, { name: 'snap', uuid: uuid(7) })),
    );
    await refused('volume-used', 'vol', 'snapshot', 'switch', 'local/default/snap', 'before');
    await controller.cliOk('vol', 'snapshot', 'switch', 'local/default/snap', 'before', '--allow-used');
    await controller.cliOk('domain', 'undefine', 'local/snap');
  });

  test('the users of a volume are known though the pool of what stands on it is stopped', async () => {
    mkdirSync(join(room.path, 'over'));
    await controller.cliOk(
      'pool',
      'create',
      'local/over',
      '--type',
      'dir',
      '--target',
      join(room.path, 'over'),
    );
    execFileSync('qemu-img', [
      ...['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', join(pool, 'free2.img'), '-u'],
      ...[join(room.path, 'over/o.qcow2'), '8M'],
    ]);
    await controller.cliOk('vol', 'create', 'local/default/free2.img', '--capacity', '8M');
    await controller.cliOk('pool', 'refresh', 'local/over');
    const disk =
      "<disk type='volume'><driver type='qcow2'/><source pool='over' volume='o.qcow2'/><target dev='vda'/></disk>";
    await controller.cliOk(
      'domain',
      'define',
      'local',
      file('over.xml', domainWith(disk, { name: 'over', uuid: uuid(5) })),
    );
    await controller.cliOk('pool', 'stop', 'local/over');
    assert.match(
      await refused('volume-used', 'vol', 'delete', 'local/default/free2.img'),
      /used by domain 'over' \(shut off\) as vda through \S+o.qcow2/,
    );
    await controller.cliOk('domain', 'undefine', 'local/over');
    // What stands on it is on record, and would be lost: also while its pool is stopped.
    assert.match(
      await refused('volume-used', 'vol', 'delete', 'local/default/free2.img'),
      /used by volume over\/o.qcow2, which stands on it/,
    );
    await controller.cliOk('pool', 'start', 'local/over');
    await controller.cliOk('vol', 'delete', 'local/over/o.qcow2');
    await controller.cliOk('vol', 'delete', 'local/default/free2.img');
  });

  test('when configurations cannot be read, a volume counts as used; what was made a moment ago is seen', async () => {
    mkdirSync(join(guests, 'etc/pve'), { recursive: true });
    symlinkSync('lxc', join(guests, 'etc/pve/lxc'));
    await controller.cliOk('vol', 'create', 'local/default/perhaps.img', '--capacity', '8M');
    assert.match(
      await refused('volume-used', 'vol', 'delete', 'local/default/perhaps.img'),
      /perhaps a domain of proxmox, whose configurations cannot be read: ELOOP/,
    );
    await until('the list to say so', async () =>
      /local\/\? +proxmox +unknown +cannot be read: ELOOP/.test(await controller.cliOk('domain', 'list')),
    );
    rmSync(join(guests, 'etc/pve/lxc'));
    // Empty, as it is while the cluster's file system is not mounted: it does not mean that there are no guests.
    assert.match(
      await refused('volume-used', 'vol', 'delete', 'local/default/perhaps.img'),
      /cluster file system of Proxmox VE is not mounted/,
    );
    rmSync(join(guests, 'etc/pve'), { recursive: true });
    await controller.cliOk('vol', 'delete', 'local/default/perhaps.img');
  });

  test('the password of a console is given out as other secrets are', async () => {
    const document = domainWith('', { name: 'vnc', uuid: uuid(6) }).replace(
      '</devices>',
      "<graphics type='vnc' port='-1' passwd='pa55word'/></devices>",
    );
    await controller.cliOk('domain', 'define', 'local', file('vnc.xml', document));
    assert.match(
      await controller.cliOk('domain', 'dumpxml', 'local/vnc'),
      /<graphics type='vnc' port='-1'\/>/,
    );
    assert.match(await controller.cliOk('domain', 'dumpxml', 'local/vnc', '--security-info'), /pa55word/);
    await controller.cliOk('domain', 'undefine', 'local/vnc');
  });

  test('a flag goes over the users, and the trail has their names', async () => {
    await controller.cliOk('vol', 'wipe', 'local/default/web.img', '--allow-used');
    await controller.cliOk('vol', 'migrate', 'local/default/db.img', 'local/second', '--allow-used');
    await controller.cliOk('vol', 'resize', 'local/default/web.img', '4M', '--shrink', '--allow-used');
    await controller.cliOk('vol', 'delete', 'local/default/web.img', '--allow-used');
    const trail = await until('the outcome is on record', async () => {
      const text = await controller.cliOk('audit', 'list');
      return /volume.delete.*done/.test(text) && text;
    });
    for (const action of ['wipe', 'resize', 'delete'])
      assert.match(trail, new RegExp(`volume\\.${action} .*although used by web \\(vda\\)`), trail);
    assert.match(trail, /volume\.migrate .*although used by web \(vdb\)/);
    await controller.cliOk('audit', 'verify');
  });

  test('a domain that a volume was taken from does not start again', async () => {
    await controller.cliOk('domain', 'destroy', 'local/web');
    assert.match(
      await refused('volume-not-found', 'domain', 'start', 'local/web'),
      /no storage vol with matching name 'web.img'/,
    );
    await controller.cliOk('domain', 'undefine', 'local/web');
    assert.doesNotMatch(await controller.cliOk('domain', 'list'), /local\/web/);
  });

  test('what a hypervisor changes is told of, and volumes are found by who uses them, also while the host is away', async () => {
    const events: FleetEvent[] = [];
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${controller.token}` },
    });
    socket.on('message', (text) => events.push(JSON.parse(String(text)) as FleetEvent));
    await once(socket, 'open');
    const configuration = join(guests, 'etc/libvirt/qemu/late.xml');
    const disk = `<disk type='file'><source file='${join(pool, 'base.qcow2')}'/><target dev='vda'/></disk>`;
    writeFileSync(configuration, domainWith(disk, { name: 'late', uuid: uuid(8) }));
    const heard = (is: (event: FleetEvent) => boolean) => until('the event', async () => events.find(is));
    const event = await heard(
      ({ type, ...rest }) => type === 'domain' && 'domain' in rest && rest.domain === 'late',
    );
    assert.ok(event.type === 'domain' && event.origin === 'libvirt');
    const use = { pool: 'default', volume: 'base.qcow2', target: 'vda', role: 'disk', through: [] };
    assert.deepEqual(event.now?.uses, [use]);
    const used = (user: string) => controller.cliOk('vol', 'list', '--user', user, '-q');
    assert.equal(await used('late'), 'local/default/base.qcow2\n');
    assert.equal(await used('virsh-made'), 'local/default/base.qcow2\nlocal/default/top.qcow2\n');
    assert.equal(await used('nobody'), '');
    rmSync(configuration);
    await heard((each) => each.type === 'domain' && each.domain === 'late' && each.now === undefined);
    assert.equal(await used('late'), '');
    socket.terminate();

    const data = join(room.path, 'data');
    await controller.kill('SIGTERM');
    await using alone = await TestController.start(data, ['--no-local-agent']);
    assert.match(await alone.cliOk('domain', 'list'), /local\/virsh-made +libvirt/);
    assert.match(
      await alone.cliOk('vol', 'show', 'local/default/base.qcow2'),
      /used by +virsh-made \(libvirt, shut off\) as vda through default\/top.qcow2\n/,
    );
  });
});
