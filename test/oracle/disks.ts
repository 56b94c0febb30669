import fc from 'fast-check';
import { checkDomain } from '../../shared/conf/domain-rules.ts';
import { formatDomain, parseDomain } from '../../shared/conf/domain-xml.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import { scratch } from '../support/scratch.ts';
import { disksOf, domainWith, judge, qemuJudge } from '../support/virsh.ts';

/**
 * `npm run oracle [-- COUNT [SEED]]`: asks a real libvirt with its QEMU driver about random disks, most of them wrong in some
 * way, and prints where it says something else than we do: another refusal, or another document.
 */
const count = Number(process.argv[2] ?? 500);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);

type Text = fc.Arbitrary<string>;
const one = (...texts: string[]): Text => fc.constantFrom(...texts);
const all = (...parts: (Text | string)[]): Text =>
  fc
    .tuple(...parts.map((part) => (typeof part === 'string' ? fc.constant(part) : part)))
    .map((made) => made.join(''));
/** There in one case of `often`. */
const maybe = (often: number, part: Text | string): Text =>
  fc.oneof(
    { weight: often - 1, arbitrary: fc.constant('') },
    { weight: 1, arbitrary: typeof part === 'string' ? fc.constant(part) : part },
  );
const attribute = (name: string, ...values: string[]): Text =>
  one(...values.map((value) => ` ${name}='${value}'`));

const encryption = all(
  '<encryption',
  attribute('format', 'luks', 'luks', 'qcow', 'luks2', 'default'),
  maybe(5, attribute('engine', 'qemu', 'librbd')),
  "><secret type='passphrase' usage='u'/></encryption>",
);
const login = all(
  "<auth username='u'><secret",
  attribute('type', 'iscsi', 'ceph', 'foo'),
  " usage='x'/></auth>",
);
const inSource = all(
  maybe(10, "<slices><slice type='storage' offset='0' size='1024'/></slices>"),
  maybe(10, encryption),
  maybe(20, all('<reservations', attribute('managed', 'yes', 'no'), '/>')),
  maybe(10, all("<seclabel model='dac'", attribute('relabel', 'no', 'yes'), '/>')),
  maybe(20, login),
);
const policy = maybe(10, attribute('startupPolicy', 'optional', 'requisite', 'mandatory'));
const host = one(
  "<host name='h'/>",
  "<host name='h' port='1'/>",
  "<host transport='unix' socket='/s'/>",
  "<host name='h' transport='rdma'/>",
  '',
  "<host name='h'/><host name='i' port='3'/>",
);
const network = all(
  '<source',
  attribute(
    'protocol',
    'nbd',
    'rbd',
    'sheepdog',
    'gluster',
    'iscsi',
    'http',
    'https',
    'ftp',
    'ftps',
    'ssh',
    'vxhs',
    'nfs',
  ),
  attribute('name', 'x', 'a/b', 'iqn.1:x/2'),
  maybe(5, " query='q'"),
  maybe(20, " tlsHostname='t'"),
  policy,
  '>',
  host,
  maybe(10, "<snapshot name='s'/>"),
  maybe(10, "<config file='/c'/>"),
  maybe(10, "<initiator><iqn name='i'/></initiator>"),
  maybe(10, "<ssl verify='no'/><readahead size='10'/><timeout seconds='10'/>"),
  maybe(10, "<identity user='u' group='g'/>"),
  inSource,
  '</source>',
);
const SOURCES: Record<string, Text> = {
  file: all('<source', attribute('file', '/a', '/b/c'), policy, '>', inSource, '</source>'),
  block: all("<source dev='/dev/a'", policy, '>', inSource, '</source>'),
  dir: all("<source dir='/d'", policy, '>', inSource, '</source>'),
  volume: all(
    "<source pool='p' volume='v'",
    maybe(5, attribute('mode', 'host', 'direct')),
    policy,
    '>',
    inSource,
    '</source>',
  ),
  nvme: all(
    "<source type='pci'",
    attribute('namespace', '1', '1', '0', 'x'),
    policy,
    '>',
    all("<address domain='0x0000' bus='0x1'", attribute('slot', '0x0', '0x1f', '0x20'), " function='0x0'/>"),
    inSource,
    '</source>',
  ),
  network,
};
const backing = (depth: number): Text =>
  one('file', 'block', 'network').chain((type) =>
    all(
      `<backingStore type='${type}'>`,
      maybe(20, '').map(() => "<format type='raw'/>"),
      SOURCES[type]!,
      depth > 0 ? maybe(2, backing(depth - 1)) : '<backingStore/>',
      '</backingStore>',
    ),
  );
const driver = all(
  '<driver',
  maybe(2, attribute('name', 'qemu', 'qemu', 'phy')),
  maybe(2, attribute('type', 'raw', 'qcow2', 'fat', 'dir', 'vmdk')),
  maybe(15, attribute('cache', 'none', 'writeback', 'default')),
  maybe(15, attribute('io', 'native', 'threads')),
  maybe(15, " copy_on_read='on'"),
  maybe(20, " queues='2'"),
  maybe(20, " ioeventfd='on'"),
  maybe(20, " event_idx='on'"),
  maybe(30, " ats='on'"),
  maybe(30, " iothread='1'"),
  '>',
  maybe(20, "<metadata_cache><max_size unit='KiB'>4</max_size></metadata_cache>"),
  '</driver>',
);
const target = all(
  '<target',
  attribute('dev', 'vda', 'vdb', 'hda', 'hdb', 'sda', 'sdb', 'fda', 'xvda', 'hda1', 'foo'),
  maybe(2, attribute('bus', 'virtio', 'virtio', 'ide', 'scsi', 'scsi', 'sata', 'usb', 'fdc', 'sd', 'xen')),
  maybe(15, attribute('tray', 'open', 'closed')),
  maybe(30, attribute('removable', 'on', 'off')),
  maybe(20, attribute('rotation_rate', '1', '7200')),
  '/>',
);
const rest = [
  maybe(20, all("<geometry cyls='1' heads='2' secs='3'", maybe(2, attribute('trans', 'auto', 'lba')), '/>')),
  maybe(20, "<blockio logical_block_size='512'/>"),
  maybe(
    15,
    all(
      '<iotune>',
      maybe(
        2,
        one('<total_bytes_sec>5</total_bytes_sec>', '<total_bytes_sec>2000000000000000</total_bytes_sec>'),
      ),
      maybe(3, '<read_bytes_sec>5</read_bytes_sec>'),
      maybe(3, '<group_name>g</group_name>'),
      '</iotune>',
    ),
  ),
  maybe(15, '<readonly/>'),
  maybe(15, '<shareable/>'),
  maybe(15, all('<transient', maybe(3, " shareBacking='yes'"), '/>')),
  maybe(15, one('<serial>abc</serial>', '<serial>a,b</serial>')),
  maybe(15, one('<wwn>5000c50015ea71aa</wwn>', '<wwn>x</wwn>')),
  maybe(20, one('<vendor>v</vendor>', '<vendor>123456789</vendor>')),
  maybe(20, one('<product>v</product>', '<product>12345678901234567</product>')),
  maybe(20, "<boot order='1'/>"),
  maybe(20, all("<alias name='", one('ua-a', 'x'), "'/>")),
  maybe(30, encryption),
  maybe(
    20,
    one(
      "<address type='pci' slot='0x05'/>",
      "<address type='drive' unit='1'/>",
      "<address type='usb' bus='0' port='1'/>",
      "<address type='virtio-mmio'/>",
      "<address type='unassigned'/>",
    ),
  ),
];
const disk = one('file', 'file', 'file', 'block', 'block', 'dir', 'volume', 'network', 'nvme').chain((type) =>
  all(
    `<disk type='${type}'`,
    maybe(3, attribute('device', 'disk', 'cdrom', 'lun', 'lun', 'floppy')),
    maybe(30, attribute('model', 'virtio', 'virtio-transitional')),
    maybe(30, attribute('rawio', 'yes', 'no')),
    maybe(30, attribute('sgio', 'filtered', 'unfiltered')),
    maybe(20, attribute('snapshot', 'no', 'internal', 'external', 'manual')),
    '>',
    maybe(3, driver),
    fc.oneof({ weight: 15, arbitrary: SOURCES[type]! }, { weight: 1, arbitrary: fc.constant('') }),
    target,
    maybe(8, backing(2)),
    ...rest,
    '</disk>',
  ),
);

/** What is about the machine or the emulator, not about disks. */
const ELSEWHERE =
  /not supported with this QEMU binary|must be 0 for controller|Only 1 IDE controller|no hub at port/;

function ours(document: string): { error?: string; disks?: string } {
  try {
    const domain = parseDomain(document, { live: false });
    const disks = disksOf(formatDomain(domain, { live: false }));
    try {
      checkDomain(domain);
      return { disks };
    } catch (error) {
      return { disks, error: messageOf(error) };
    }
  } catch (error) {
    return { error: messageOf(error) };
  }
}

function messageOf(error: unknown): string {
  if (!isStowageError(error, 'invalid-xml')) throw error;
  return error.message;
}

await using room = scratch();
const qemu = qemuJudge(room.path);
let differences = 0;
let refused = 0;
const documents = fc.sample(disk, { numRuns: count, seed }).map((made) => domainWith(made));
for (const document of documents) {
  const verdict = judge(room.path, document, qemu);
  const error = 'error' in verdict ? verdict.error : undefined;
  if (error !== undefined && ELSEWHERE.test(error)) continue;
  if (error !== undefined) refused++;
  const mine = ours(document);
  // The QEMU driver adds what is its own; the test driver writes no more than what was read.
  const common = judge(room.path, document);
  const written = 'document' in common ? disksOf(common.document) : undefined;
  if (mine.error === error && (written === undefined || mine.disks === undefined || mine.disks === written))
    continue;
  differences++;
  console.log(disksOf(document));
  if (mine.error !== error)
    console.log(`  ours:    ${mine.error ?? 'taken'}\n  libvirt: ${error ?? 'taken'}`);
  else console.log(`  ours:    ${mine.disks}\n  libvirt: ${written}`);
}
console.log(`${count} disks (seed ${seed}), ${refused} refused by libvirt, ${differences} where we differ`);
