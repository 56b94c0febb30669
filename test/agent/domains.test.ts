import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { DefinedDomains } from '../../agent/domains/defined-domains.ts';
import { libvirtDomains } from '../../agent/domains/found/libvirt.ts';
import { openvzDomains } from '../../agent/domains/found/openvz.ts';
import { proxmoxDomains } from '../../agent/domains/found/proxmox.ts';
import { type PlacedPool, type PlacedVolume, References } from '../../agent/domains/references.ts';
import type { Affect, Domain } from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { RULE_CASES } from '../support/disk-rules.ts';
import { scratch } from '../support/scratch.ts';
import { disksOf, domainWith } from '../support/virsh.ts';

const affect = (options: Partial<Affect> = {}): Affect => ({
  live: false,
  config: false,
  current: false,
  persistent: false,
  ...options,
});
const disk = (dev: string, path = '/a', inner = ''): string =>
  `<disk type='file'><source file='${path}'/><target dev='${dev}'/>${inner}</disk>`;
const cdrom = (path: string): string =>
  `<disk type='file' device='cdrom'>${path && `<source file='${path}'/>`}<target dev='hdc' bus='ide'/></disk>`;

/** A volume of pool `p` is whatever its name says. */
const volumes = (pool: string, volume: string, running: boolean) => {
  if (pool !== 'p') throw new StowageError('pool-not-found', 'no pool');
  if (running && volume === 'stopped') throw new StowageError('pool-inactive', 'stopped');
  return volume === 'block' ? ('block' as const) : volume === 'stopped' ? undefined : ('file' as const);
};

describe('the rules of disks, on every way into a domain', () => {
  test('what is refused to be defined is refused to be attached, to what is saved and to what runs', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    const defined = domainWith('', { name: 'saved', uuid: 'c7a5fdbd-edaf-9455-926a-d65c16db1801' });
    await domains.define(defined);
    await domains.define(domainWith('', { name: 'runs', uuid: 'c7a5fdbd-edaf-9455-926a-d65c16db1802' }));
    await domains.start('runs');
    const before = domains.document('runs', { inactive: false, secure: true });
    for (const { message, refused, taken } of RULE_CASES) {
      const is = { code: 'invalid-xml', message };
      await assert.rejects(domains.define(domainWith(refused)), is, refused);
      await assert.rejects(
        domains.changeDevice('saved', refused, 'attach-device', affect({ config: true })),
        is,
      );
      await assert.rejects(
        domains.changeDevice('runs', refused, 'attach-device', affect({ live: true })),
        is,
      );
      await assert.rejects(
        domains.changeDevice('runs', refused, 'attach-device', affect({ persistent: true })),
        is,
      );

      await domains.define(domainWith(taken));
      await domains.undefine('guest');
      await domains.changeDevice('saved', taken, 'attach-device', affect({ config: true }));
      await domains.define(defined);
      // Some buses cannot be plugged into while they run, whatever the rules say.
      await domains.changeDevice('runs', taken, 'attach-device', affect({ live: true })).then(
        () => domains.changeDevice('runs', taken, 'detach-device', affect({ live: true })),
        (error) => assert.match(error.message, /disk bus '(ide|sata|fdc)' cannot be hotplugged/, taken),
      );
    }
    assert.equal(domains.document('runs', { inactive: false, secure: true }), before);
  });

  test('a unit on a volume that is a file is refused at once, on every way', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    const lun = (volume: string): string =>
      `<disk type='volume' device='lun'><source pool='p' volume='${volume}'/><target dev='sda' bus='scsi'/></disk>`;
    const is = {
      code: 'invalid-xml',
      message: "unsupported configuration: disk device='lun' is only valid for block type disk source",
    };
    await assert.rejects(domains.define(domainWith(lun('file'))), is);
    await domains.define(domainWith(''));
    await assert.rejects(
      domains.changeDevice('guest', lun('file'), 'attach-device', affect({ config: true })),
      is,
    );
    await domains.start('guest');
    await assert.rejects(
      domains.changeDevice('guest', lun('file'), 'attach-device', affect({ live: true })),
      is,
    );
    await domains.changeDevice('guest', lun('block'), 'attach-device', affect({ persistent: true }));
    await assert.rejects(domains.define(domainWith(lun('block').replace("pool='p'", "pool='q'"))), {
      code: 'pool-not-found',
    });
  });

  test('a domain on a pool that is stopped is saved, and does not start', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(
      domainWith("<disk type='volume'><source pool='p' volume='stopped'/><target dev='vda'/></disk>"),
    );
    await assert.rejects(domains.start('guest'), { code: 'pool-inactive' });
    assert.equal(domains.list()[0]?.state, 'shut off');
  });
});

describe('two domains that run', () => {
  const on = (name: string, disks: string) =>
    domainWith(disks, { name, uuid: `c7a5fdbd-edaf-9455-926a-d65c16db18${name === 'one' ? '11' : '22'}` });

  test('do not have one image between them, unless both say so or both only read', async () => {
    for (const [inner, code] of [
      ['', 'volume-used'],
      ['<shareable/>', undefined],
      ['<readonly/>', undefined],
    ] as const) {
      await using room = scratch();
      const domains = await DefinedDomains.open(room.path, volumes);
      await domains.define(on('one', disk('vda', '/images/a', inner)));
      await domains.define(on('two', disk('vdb', '/images/../images/a', inner)));
      await domains.start('one');
      if (code === undefined) await domains.start('two');
      else await assert.rejects(domains.start('two'), { code });
    }
  });

  test('are not given one while they run, by its path or by its pool', async () => {
    await using room = scratch();
    const pathOf = (pool: string, volume: string) => (pool === 'p' ? `/images/${volume}` : undefined);
    const domains = await DefinedDomains.open(room.path, volumes, pathOf);
    await domains.define(on('one', disk('vda', '/images/a')));
    await domains.define(on('two', ''));
    for (const name of ['one', 'two']) await domains.start(name);
    const byPool = "<disk type='volume'><source pool='p' volume='a'/><target dev='vdc'/></disk>";
    await assert.rejects(domains.changeDevice('two', byPool, 'attach-device', affect({ live: true })), {
      code: 'volume-used',
    });
    await domains.destroy('one');
    await domains.changeDevice('two', byPool, 'attach-device', affect({ live: true }));
  });
});

describe('a defined domain', () => {
  test('is there after a restart, both its forms, with its secrets and the end of its chain', async () => {
    await using room = scratch();
    const secret =
      "<disk type='network'><source protocol='http' name='x'><host name='h'/><cookies><cookie name='c'>s3cr3t</cookie></cookies></source><backingStore/><target dev='vda'/></disk>";
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(secret));
    await domains.start('guest');
    await domains.changeDevice('guest', disk('vdb', '/b'), 'attach-device', affect({ live: true }));
    const documents = (of: DefinedDomains): string[] =>
      [false, true].map((inactive) => of.document('guest', { inactive, secure: true }));
    const again = await DefinedDomains.open(room.path, volumes);
    assert.deepEqual(documents(again), documents(domains));
    const [live = '', inactive = ''] = documents(again);
    assert.match(live, /<domain type='qemu' id='1'>.*s3cr3t.*<backingStore\/>.*vdb/s);
    assert.match(inactive, /<domain type='qemu'>.*s3cr3t/s);
    assert.doesNotMatch(inactive, /vdb|backingStore/);
    assert.doesNotMatch(again.document('guest', { inactive: false, secure: false }), /s3cr3t/);
  });

  test('whose file is damaged is told of, holds nobody up, and can be forgotten or made anew', async () => {
    await using room = scratch();
    const before = await DefinedDomains.open(room.path, volumes);
    await before.define(domainWith(disk('vda', '/a')));
    const good = readFileSync(join(room.path, 'guest.json'), 'utf8');
    writeFileSync(join(room.path, 'torn.json'), good.slice(0, -40).replace('/a', '/torn'));
    writeFileSync(join(room.path, 'empty.json'), '{}');
    writeFileSync(join(room.path, '%zz.json'), '');
    const domains = await DefinedDomains.open(room.path, volumes);
    const told = (): (string | undefined)[][] =>
      domains.list().map(({ name, unreadable }) => [name, unreadable && 'unreadable']);
    assert.deepEqual(told(), [
      ['guest', undefined],
      ['%zz', 'unreadable'],
      ['empty', 'unreadable'],
      ['torn', 'unreadable'],
    ]);
    assert.ok(
      domains
        .list()
        .some(({ name, images }) => name === 'torn' && images.some(({ path }) => path === '/torn')),
    );
    // What is refused leaves what is there as it was.
    await assert.rejects(domains.define(domainWith(RULE_CASES[0]!.refused, { name: 'torn' })));
    assert.equal(told().length, 4);
    await domains.undefine('empty');
    await domains.define(domainWith('', { name: 'torn', uuid: 'c7a5fdbd-edaf-9455-926a-d65c16db1803' }));
    assert.deepEqual(told(), [
      ['guest', undefined],
      ['torn', undefined],
      ['%zz', 'unreadable'],
    ]);
    await domains.undefine('%zz');
    const again = await DefinedDomains.open(room.path, volumes);
    assert.deepEqual(
      again.list().map(({ name }) => name),
      ['guest', 'torn'],
    );
  });

  test('is not lost with a damaged file that somebody put beside its own', async () => {
    await using room = scratch();
    const before = await DefinedDomains.open(room.path, volumes);
    await before.define(domainWith(''));
    writeFileSync(join(room.path, 'gu%65st.json'), '');
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.undefine('guest');
    assert.deepEqual(
      domains.list().map(({ name, unreadable }) => [name, unreadable]),
      [['guest', undefined]],
    );
    const again = await DefinedDomains.open(room.path, volumes);
    assert.deepEqual(again.list(), domains.list());
  });

  test("options mean what virsh's do", async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(''));
    const targets = (): string[] =>
      [false, true].map((inactive) =>
        [...domains.document('guest', { inactive, secure: false }).matchAll(/dev='(\w+)' bus/g)]
          .map(([, dev]) => dev)
          .join(' '),
      );
    const attach = (dev: string, options: Partial<Affect>) =>
      domains.changeDevice('guest', disk(dev), 'attach-device', affect(options));
    await assert.rejects(attach('vda', { live: true }), {
      code: 'domain-state',
      message: 'Requested operation is not valid: domain is not running',
    });
    for (const [options, message] of [
      [{ current: true, config: true }, 'Options --current and --config are mutually exclusive'],
      [{ current: true, persistent: true }, 'Options --persistent and --current are mutually exclusive'],
    ] as const)
      await assert.rejects(attach('vda', options), { code: 'invalid-argument', message });
    // As of old, what is attached or detached without options is for a domain that runs.
    await assert.rejects(attach('vda', {}), {
      message: 'Requested operation is not valid: domain is not running',
    });
    await attach('vda', { current: true });
    await attach('vdb', { persistent: true });
    assert.deepEqual(targets(), ['vda vdb', 'vda vdb']);
    await domains.start('guest');
    await attach('vdc', {});
    await attach('vdd', { current: true });
    await attach('vde', { config: true });
    await attach('vdf', { persistent: true });
    await attach('vdg', { live: true, config: true });
    assert.deepEqual(targets(), ['vda vdb vdc vdd vdf vdg', 'vda vdb vde vdf vdg']);
    await domains.changeDevice('guest', disk('vdc'), 'detach-device', affect());
    assert.deepEqual(targets()[0], 'vda vdb vdd vdf vdg');
    await domains.undefine('guest');
    await assert.rejects(attach('vdh', { config: true }), {
      code: 'domain-state',
      message: 'Requested operation is not valid: transient domains do not have any persistent config',
    });
    await domains.destroy('guest');
    assert.deepEqual(domains.list(), []);
  });

  test('a change that one form refuses is made in none', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(disk('vda')));
    await domains.start('guest');
    await domains.changeDevice('guest', disk('vdb', '/b'), 'attach-device', affect({ live: true }));
    await assert.rejects(
      domains.changeDevice('guest', disk('vdb', '/c'), 'attach-device', affect({ persistent: true })),
      { message: "XML error: target 'vdb' duplicated for disk sources '/b' and '/c'" },
    );
    assert.doesNotMatch(domains.document('guest', { inactive: true, secure: false }), /vdb/);
  });

  test('what is not there is neither changed nor taken away, in the words of libvirt', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(disk('vda')));
    await domains.start('guest');
    const refuse = (
      change: 'attach-device' | 'detach-device' | 'update-device',
      xml: string,
      options: Partial<Affect>,
      message: string,
    ) => assert.rejects(domains.changeDevice('guest', xml, change, affect(options)), { message });
    const config = { config: true };
    const live = { live: true };
    await refuse(
      'attach-device',
      disk('vda'),
      config,
      'Requested operation is not valid: target vda already exists',
    );
    await refuse('detach-device', disk('vdz'), config, 'device not found: no target device vdz');
    await refuse('detach-device', disk('vdz'), live, 'device not found: disk vdz not found');
    await refuse('update-device', disk('vdz'), config, "invalid argument: target vdz doesn't exist.");
    await refuse('update-device', disk('vdz'), live, "internal error: disk 'vdz' not found");
    await refuse(
      'update-device',
      disk('vda', '/b'),
      live,
      'unsupported configuration: disk source can be changed only in removable drives',
    );
    await refuse(
      'update-device',
      disk('vda', '/a', '<serial>x</serial>'),
      live,
      "unsupported configuration: of the running disk 'vda' only the medium and iotune can be changed",
    );
    await refuse('attach-device', '<foo/>', config, "unsupported configuration: unknown device type 'foo'");
    await assert.rejects(domains.define(domainWith('', { uuid: 'c7a5fdbd-edaf-9455-926a-d65c16db1800' })), {
      code: 'domain-exists',
      message:
        "operation failed: domain 'guest' already exists with uuid c7a5fdbd-edaf-9455-926a-d65c16db1809",
    });
    await assert.rejects(domains.start('guest'), { code: 'domain-state' });
    await assert.rejects(domains.start('nobody'), { code: 'domain-not-found' });
  });

  test('a domain that has lost volumes is mended disk by disk', async () => {
    await using room = scratch();
    const lost = new Set<string>();
    const domains = await DefinedDomains.open(room.path, (_pool, volume) => {
      if (lost.has(volume)) throw new StowageError('volume-not-found', volume);
      return 'file';
    });
    const on = (dev: string, volume: string): string =>
      `<disk type='volume'><source pool='p' volume='${volume}'/><target dev='${dev}'/></disk>`;
    await domains.define(domainWith(on('vda', 'a') + on('vdb', 'b') + on('vdc', 'c')));
    for (const volume of ['a', 'b']) lost.add(volume);
    const config = affect({ config: true });
    await assert.rejects(domains.start('guest'), { code: 'volume-not-found' });
    await assert.rejects(domains.changeDevice('guest', on('vda', 'b'), 'update-device', config), {
      code: 'volume-not-found',
    });
    await domains.changeDevice('guest', on('vda', 'moved'), 'update-device', config);
    await domains.changeDevice('guest', on('vdb', 'b'), 'detach-device', config);
    await domains.start('guest');
  });

  test('what is detached from a running domain is judged by the disk that it has', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(disk('hda')));
    await domains.start('guest');
    await assert.rejects(
      domains.changeDevice(
        'guest',
        "<disk><source file='/a'/><target dev='hda' bus='virtio'/></disk>",
        'detach-device',
        affect({ live: true }),
      ),
      { message: "unsupported configuration: disk bus 'ide' cannot be hotplugged." },
    );
  });

  test('whatever is taken is there again after a restart', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    const odd = [
      disk('vda', '/with&#10;a&#13;line&#9;feed'),
      "<disk device='cdrom'><target dev='hdc'/></disk><disk type='volume' device='cdrom'><source/><target dev='hdd'/></disk>",
      `<disk><source file='/a'/><backingStore type='file'><format type='raw'/><source/></backingStore><target dev='vda'/></disk>`,
      ...RULE_CASES.map(({ taken }) => taken),
    ];
    let kept = 0;
    for (const xml of odd) {
      const defined = await domains.define(domainWith(xml)).then(
        () => true,
        (error) => {
          // What cannot be kept is refused.
          assert.equal(error.code, 'invalid-xml');
          return false;
        },
      );
      if (!defined) continue;
      kept++;
      const again = await DefinedDomains.open(room.path, volumes);
      const document = (of: DefinedDomains): string => of.document('guest', { inactive: true, secure: true });
      // A drive without a medium has no type that would be kept.
      const typeless = (text: string): string => text.replaceAll(/<disk type='\w+' device='cdrom'>/g, '');
      assert.equal(typeless(document(again)), typeless(document(domains)));
      await domains.undefine('guest');
    }
    assert.ok(kept > RULE_CASES.length);
    await domains.define(domainWith('', { name: '\u00fc'.repeat(100) }));
  });

  test('a medium is changed while the domain runs, and taken out', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(cdrom('/a.iso')));
    await domains.start('guest');
    await domains.changeDevice('guest', cdrom('/b.iso'), 'update-device', affect({ live: true }));
    assert.match(domains.document('guest', { inactive: false, secure: false }), /\/b.iso/);
    await domains.changeDevice('guest', cdrom(''), 'update-device', affect({ live: true }));
    assert.doesNotMatch(disksOf(domains.document('guest', { inactive: false, secure: false })), /<source/);
    assert.match(domains.document('guest', { inactive: true, secure: false }), /\/a.iso/);
  });

  test('changes that come at once are made one after the other', async () => {
    await using room = scratch();
    const domains = await DefinedDomains.open(room.path, volumes);
    await domains.define(domainWith(''));
    const names = [...'abcdefghijklmnop'].map((letter) => `vd${letter}`);
    await Promise.all(
      names.map((dev) => domains.changeDevice('guest', disk(dev), 'attach-device', affect({ config: true }))),
    );
    const again = await DefinedDomains.open(room.path, volumes);
    assert.equal(again.list()[0]?.images.length, names.length);
  });
});

describe('what others keep on a host', () => {
  const write = (root: string, path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };

  test("libvirt's domains are read, as they are saved and as they run", async () => {
    await using room = scratch();
    const running = domainWith(
      disk('vda', '/pool/base.qcow2') +
        disk(
          'vdb',
          '/pool/hot.qcow2',
          "<mirror type='file' job='copy'><source file='/pool/copy.qcow2'/></mirror>",
        ),
    );
    write(
      room.path,
      'etc/libvirt/qemu/guest.xml',
      `<!--\nWARNING: AUTO-GENERATED\n-->\n\n${domainWith(disk('vda', '/pool/base.qcow2'))}`,
    );
    write(
      room.path,
      'run/libvirt/qemu/guest.xml',
      `<!-- x -->\n<domstatus state='running' reason='booted' pid='1'>\n<monitor path='/m' type='unix'/>\n${running}\n</domstatus>\n`,
    );
    write(room.path, 'etc/libvirt/qemu/odd.xml', "<domain><disk><source file='/pool/odd.img'/>");
    write(room.path, 'etc/libvirt/qemu/networks/default.xml', '<network/>');
    write(
      room.path,
      'etc/libvirt/storage/images.xml',
      "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>",
    );
    write(
      room.path,
      'etc/libvirt/lxc/box.xml',
      domainWith(
        "<filesystem type='file'><source file='/pool/root.img'/><target dir='/'/></filesystem><disk type='volume'><source pool='images' volume='v'/><target dev='vda'/></disk><disk type='volume'><source pool='unknown' volume='v'/><target dev='vdb'/></disk>",
        { type: 'lxc', name: 'box' },
      ).replace('</os>', '<nvram>/pool/nvram.fd</nvram></os>'),
    );
    const [guest, odd, box, more] = await libvirtDomains(room.path);
    assert.equal(more, undefined);
    // By libvirt's own pools, and all that it opens.
    assert.deepEqual(
      box?.images.map(({ path }) => path),
      ['/images/v', undefined, '/pool/nvram.fd', '/pool/root.img', undefined, undefined].filter(
        (_path, index) => index < (box?.images.length ?? 0),
      ),
    );
    assert.deepEqual([guest?.name, guest?.state, guest?.persistent], ['guest', 'running', true]);
    assert.deepEqual(
      [...new Set(guest?.images.map(({ target, role, path }) => `${target} ${role} ${path}`))],
      ['vda disk /pool/base.qcow2', 'vdb disk /pool/hot.qcow2', 'vdb mirror /pool/copy.qcow2'],
    );
    assert.equal(odd?.name, 'odd');
    assert.ok(odd?.unreadable);
    // What cannot be understood is taken to use whatever it names.
    assert.deepEqual(
      odd?.images.map(({ path }) => path),
      ['/pool/odd.img'],
    );
  });

  test('guests of Proxmox VE are read, their snapshots and storages with them', async () => {
    await using room = scratch();
    write(
      room.path,
      'etc/pve/storage.cfg',
      'dir: local\n\tpath /var/lib/vz\n\tcontent iso,images\n\nbtrfs: bt\n\tpath /bt\n\tcontent-dirs images=own/place\n\nnfs: share\n\tserver 10.0.0.1\n\texport /e\n\nlvmthin: fast\n\tvgname pve\n\tthinpool data\n\nzfspool: tank\n\tpool rpool/data\n\nrbd: ceph\n\tpool rbd\n',
    );
    write(
      room.path,
      'etc/pve/qemu-server/100.conf',
      '#notes: scsi9: local:999/x\nboot: order=scsi0\nide2: local:iso/debian.iso,media=cdrom\nname: web\nscsi0: local:100/vm-100-disk-0.qcow2,size=32G\nscsi1: share:9000/base-9000-disk-0.qcow2/100/vm-100-disk-1.qcow2\nscsi2: fast:vm-100-disk-2,size=8G\nscsi3: tank:base-9000-disk-0/vm-100-disk-3\nscsi4: ceph:vm-100-disk-4\nscsi5: /dev/disk/by-id/x,size=1G\nscsihw: virtio-scsi-pci\nsmbios1: uuid=c7a5fdbd-edaf-9455-926a-d65c16db1809\nnet0: virtio=AA:BB\nsata0: bt:100/vm-100-disk-8.raw,size=1G\nsata1: media=disk,file=/srv/my disks/a.img,size=1G\nunused0: local:100/vm-100-disk-7.raw\nide3: none,media=cdrom\n\n[before]\nscsi0: local:100/vm-100-disk-0.qcow2,size=32G\nscsi6: local:100/vm-100-disk-6.raw\n',
    );
    write(room.path, 'run/qemu-server/100.pid', '1\n');
    write(
      room.path,
      'etc/pve/lxc/101.conf',
      'hostname: db\nrootfs: local:101/vm-101-disk-0.raw,size=8G\nmp0: /srv/data,mp=/data\n',
    );
    const [machine, container] = await proxmoxDomains(room.path);
    assert.deepEqual(
      [machine?.name, machine?.state, machine?.uuid],
      ['100', 'running', 'c7a5fdbd-edaf-9455-926a-d65c16db1809'],
    );
    assert.deepEqual(
      machine?.images.map(({ target, path }) => `${target} ${path}`),
      [
        'ide2 /var/lib/vz/template/iso/debian.iso',
        'scsi0 /var/lib/vz/images/100/vm-100-disk-0.qcow2',
        'scsi1 /mnt/pve/share/images/100/vm-100-disk-1.qcow2',
        'scsi2 /dev/pve/vm-100-disk-2',
        'scsi3 /dev/zvol/rpool/data/vm-100-disk-3',
        'scsi5 /dev/disk/by-id/x',
        'sata0 /bt/own/place/100/vm-100-disk-8/disk.raw',
        'sata1 /srv/my disks/a.img',
        'unused0 /var/lib/vz/images/100/vm-100-disk-7.raw',
        'scsi6 /var/lib/vz/images/100/vm-100-disk-6.raw',
      ],
    );
    assert.deepEqual(
      container?.images.map(({ target, path }) => `${target} ${path}`),
      ['rootfs /var/lib/vz/images/101/vm-101-disk-0.raw', 'mp0 /srv/data'],
    );
  });

  test('containers of OpenVZ are read, by their own private area or the common one', async () => {
    await using room = scratch();
    write(room.path, 'etc/vz/vz.conf', 'VE_ROOT=/vz/root/$VEID\nVE_PRIVATE=/vz/private/$VEID\n');
    write(room.path, 'etc/vz/conf/101.conf', 'ONBOOT="yes"\nVE_LAYOUT="ploop"\nNAME="web"\n');
    write(
      room.path,
      'etc/vz/conf/102.conf',
      'VE_PRIVATE=/old\nVE_PRIVATE="/pool/$VEID"\nDISK1="image=/disks/$VEID/more.hdd,size=1G"\n',
    );
    write(room.path, 'etc/vz/conf/ve-basic.conf-sample', 'VE_PRIVATE=/x\n');
    write(room.path, 'etc/vz/conf/0.conf', 'ONBOOT="no"\n');
    assert.deepEqual(
      (await openvzDomains(room.path)).map(({ name, images }) => [name, ...images.map(({ path }) => path)]),
      [
        ['web', '/vz/private/101'],
        ['102', '/pool/102', '/disks/102/more.hdd'],
      ],
    );
  });
});

describe('the references', () => {
  const volume = (name: string, path: string, backingStore?: string) =>
    [name, { path, backingStore }] as const;
  /** One pool, whose volumes lie anywhere. */
  const pools = (volumes: (readonly [string, PlacedVolume])[]): PlacedPool[] => {
    const byName = new Map(volumes);
    return [
      {
        name: 'p',
        get: (name) => byName.get(name),
        names: () => byName.keys(),
        overlays: () => [...byName].filter(([, { backingStore }]) => backingStore !== undefined),
      },
    ];
  };
  const domain = (name: string, ...images: Domain['images']): Domain => ({
    name,
    origin: 'stowage',
    state: 'running',
    persistent: true,
    images,
  });

  test('lead from a volume through its chain to all who use it', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    for (const name of ['base', 'middle', 'top', 'other']) writeFileSync(at(name), '');
    mkdirSync(at('ct/root.hdd'), { recursive: true });
    symlinkSync(at('top'), at('link'));
    const all = [
      volume('base', at('base')),
      volume('middle', at('middle'), 'base'),
      volume('top', at('top'), at('middle')),
      volume('other', at('other'), at('other')),
      volume('hdd', at('ct/root.hdd')),
    ];
    const references = await References.of(
      [
        domain('web', { target: 'vda', role: 'disk', path: at('link') }),
        domain('copy', { target: 'vdb', role: 'mirror', pool: 'p', volume: 'middle' }),
        domain('loop', { target: 'vda', role: 'disk', path: at('other') }),
        domain('ct', { target: 'root', role: 'disk', path: at('ct') }),
        domain('inside', { target: 'vda', role: 'disk', path: at('ct/root.hdd/root.hds') }),
      ],
      pools(all),
      (pool, name) => (pool === 'p' ? at(name) : undefined),
    );
    const users = (name: string): string[] =>
      references
        .users('p', name)
        .map(({ domain: user, target, role, through }) => [user, target, role, ...through].join(' '));
    assert.deepEqual(users('top'), ['web vda disk']);
    assert.deepEqual(users('middle'), ['web vda backing p/top', 'copy vdb mirror']);
    assert.deepEqual(users('base'), ['web vda backing p/top p/middle', 'copy vdb backing p/middle']);
    assert.deepEqual(users('other'), ['loop vda disk']);
    assert.deepEqual(users('hdd'), ['ct root disk', 'inside vda disk']);
    assert.deepEqual(references.standingOn('p', 'base'), ['p/middle']);
    assert.deepEqual(references.users('p', 'nothing'), []);
  });

  test('lead through images that are no volumes, and texts of backing stores in all their forms', async () => {
    await using room = scratch();
    const at = (name: string): string => join(room.path, name);
    const image = (name: string, backing?: string): void => {
      const below = backing === undefined ? [] : ['-F', 'raw', '-u', '-b', backing];
      execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...below, at(name), '1M']);
    };
    image('outside', at('base'));
    image('json', `json:{"driver":"qcow2","file":{"driver":"file","filename":"${at('base')}"}}`);
    image('uri', `file:${at('base')}`);
    writeFileSync(at('base'), '');
    const references = await References.of(
      ['outside', 'json', 'uri'].map((name) => domain(name, { target: 'vda', role: 'disk', path: at(name) })),
      pools([volume('base', at('base'))]),
      () => undefined,
    );
    assert.deepEqual(
      references.users('p', 'base').map(({ domain: user, through }) => [user, ...through].join(' ')),
      ['outside', 'json', 'uri'].map((name) => `${name} ${at(name)}`),
    );
  });

  test('of 4000 domains and volumes are all found', async () => {
    const many = Array.from({ length: 4000 }, (_, index) => index);
    const references = await References.of(
      many.map((index) => domain(`d${index}`, { target: 'vda', role: 'disk', path: `/nowhere/${index}` })),
      pools(many.map((index) => volume(`v${index}`, `/pool/v${index}`, index > 0 ? '/pool/v0' : undefined))),
      () => undefined,
    );
    assert.equal(references.standingOn('p', 'v0').length, 3999);
  });
});
