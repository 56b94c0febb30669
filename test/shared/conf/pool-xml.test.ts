import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { POOL_TYPES } from '../../../shared/conf/pool-types.ts';
import { formatPool, parsePool } from '../../../shared/conf/pool-xml.ts';
import { libvirtFile, libvirtFiles, withoutLibvirtData } from '../../support/libvirt-data.ts';
import { scratch } from '../../support/scratch.ts';

const source = (inner: string, type: string, target = '<target><path>/x</path></target>'): string =>
  `<pool type='${type}'><name>a</name><source>${inner}</source>${target}</pool>`;
const auth = (inner: string): string => source(`<host name='h'/><device path='/d'/>${inner}`, 'iscsi');
const permissions = (inner: string): string =>
  `<pool type='dir'><name>a</name><target><path>/x</path><permissions>${inner}</permissions></target></pool>`;

/** Documents that libvirt refuses, and what it says. */
const REFUSED: [string, string][] = [
  ['<pool/>', "XML error: Missing required attribute 'type' in element 'pool'"],
  ["<pool type='foo'/>", "XML error: Invalid value for attribute 'type' in element 'pool': 'foo'."],
  ["<pool type='dir'/>", 'XML error: missing pool source name element'],
  ["<pool type='dir'><name>a/b</name></pool>", "XML error: name a/b cannot contain '/'"],
  ["<pool type='dir'><name>a</name></pool>", 'XML error: missing storage pool target path'],
  ["<pool type='vstorage'><name>a</name></pool>", 'XML error: missing storage pool target path'],
  [
    "<pool type='dir'><name>a</name><uuid>x</uuid><target><path>/x</path></target></pool>",
    'XML error: malformed uuid element',
  ],
  [source('', 'fs'), 'XML error: missing storage pool source device name'],
  [source('<device/>', 'fs'), 'XML error: missing storage pool source device path'],
  [
    source("<device path='/d'/><format type='foo'/>", 'fs'),
    'unsupported configuration: unknown pool format type foo',
  ],
  [source("<dir path='/e'/>", 'netfs'), 'XML error: missing storage pool source host name'],
  [source("<host name='h'/>", 'netfs'), 'XML error: missing storage pool source path'],
  [source("<host/><dir path='/e'/>", 'netfs'), 'XML error: missing storage pool host name'],
  [
    source("<host name='h'/><device path='d'/>", 'iscsi-direct', ''),
    'unsupported configuration: missing initiator IQN',
  ],
  [source("<host name='h'/>", 'rbd', ''), "XML error: element 'name' is mandatory for RBD pool"],
  [source('', 'scsi'), 'XML error: missing storage pool source adapter'],
  [
    source("<adapter type='foo'/>", 'scsi'),
    "XML error: Invalid value for attribute 'type' in element 'adapter': 'foo'.",
  ],
  [
    source("<adapter type='fc_host'/>", 'scsi'),
    "XML error: 'wwnn' and 'wwpn' must be specified for adapter type 'fchost'",
  ],
  [
    source("<adapter type='scsi_host'/>", 'scsi'),
    "XML error: Either 'name' or 'parent' must be specified for the 'scsi_host' adapter",
  ],
  [
    source("<device path='/d' part_separator='x'/>", 'disk'),
    "XML error: Invalid value for attribute 'part_separator' in element 'device': 'x'.",
  ],
  [
    source("<host name='h' port='x'/><device path='/d'/>", 'iscsi'),
    "XML error: Invalid value for attribute 'port' in element 'host': 'x'. Expected integer value",
  ],
  [auth('<auth/>'), 'XML error: missing username for auth'],
  [auth("<auth type='chap' username='u'/>"), 'XML error: Missing <secret> element in auth'],
  [
    auth("<auth type='chap' username='u'><secret/></auth>"),
    'XML error: missing secret uuid or usage attribute',
  ],
  [auth("<auth type='chap' username='u'><secret uuid='x'/></auth>"), "XML error: invalid secret uuid 'x'"],
  [permissions('<mode>9</mode>'), 'XML error: malformed octal mode'],
  [permissions('<mode>01000</mode>'), 'XML error: malformed octal mode'],
  [permissions('<mode>0755</mode><owner>x</owner>'), 'XML error: malformed owner element'],
  [permissions('<mode>0755</mode><group>-2</group>'), 'XML error: malformed group element'],
  [
    "<pool type='dir'><name>a</name><features><cow state='x'/></features><target><path>/x</path></target></pool>",
    "XML error: Invalid value for attribute 'state' in element 'cow': 'x'.",
  ],
  [
    source("<host name='h'/><dir path='/e'/><protocol ver='4,1'/>", 'netfs'),
    "storage pool protocol ver '4,1' must not contain ','",
  ],
  [
    "<pool type='rbd'><name>a</name><source><host name='h'/><name>z</name></source><refresh><volume allocation='foo'/></refresh></pool>",
    'unsupported configuration: unknown storage pool volume refresh allocation type foo',
  ],
];

/** Documents that libvirt takes. */
const TAKEN: string[] = [
  source('', 'dir'),
  source("<host name='h'/><device path='/d'/>", 'dir'),
  source("<device path='/d'/>", 'fs', '<target><path>//x/y//</path></target>'),
  source("<device path='/d'/>", 'disk'),
  source('', 'logical', ''),
  source('<name>z</name>', 'logical', '<target><path>/elsewhere</path></target>'),
  source('<name>z</name>', 'zfs', '<target><path>/elsewhere</path></target>'),
  source("<host name='h'/><name>z</name>", 'sheepdog', ''),
  source("<host name='h'/>", 'gluster', ''),
  source("<host name='h'/><name>z</name><dir path='/a//b/'/>", 'gluster', ''),
  source("<host name='h'/><host name='i' port='2049'/><dir path='/e//'/>", 'netfs'),
  source("<adapter name='host0'/>", 'scsi'),
  source("<adapter type='fc_host' wwnn='20000000c9831b4b' wwpn='10000000c9831b4b'/>", 'scsi'),
  source('<name>c</name>', 'vstorage'),
  auth("<auth type='chap' username='u'><secret usage='a &amp; b'/></auth>"),
  permissions('<mode>0</mode><owner>0744</owner><group>4294967295</group>'),
  permissions('<owner>-1</owner>'),
  permissions("<mode>0700</mode><label>s'0&quot;</label>"),
  "<pool type='rbd'><name>a</name><source><host name='h'/><name>z</name></source><refresh><volume allocation='capacity'/></refresh></pool>",
  "<?xml version='1.0'?><!-- a comment --><pool type='dir'><name><![CDATA[a & b]]></name><uuid>70A7EB156C34EE9CBF5769E8E5FF3FB2</uuid><target><path>/&#x78;</path></target></pool>",
];

/** Without what differs from run to run: ids that were made up, sizes that the driver made up. */
const constant = (xml: string): string =>
  xml
    .replace(/<uuid>.*<\/uuid>/, '<uuid/>')
    .replace(/(<(?:capacity|allocation|available) unit='bytes'>)\d+/g, '$10')
    .trim();

describe("a pool's document", () => {
  test("libvirt's own files come out as libvirt writes them, and stay so", {
    skip: withoutLibvirtData,
  }, () => {
    const names = libvirtFiles('pool-out');
    assert.ok(names.length >= 25, `${names.length} files`);
    for (const name of names) {
      const expected = libvirtFile(`pool-out/${name}`);
      assert.equal(formatPool(parsePool(libvirtFile(`pool-in/${name}`))).trim(), expected.trim(), name);
      assert.equal(formatPool(parsePool(expected)).trim(), expected.trim(), `${name}, second pass`);
    }
  });

  test('what libvirt refuses is refused in its words', () => {
    for (const [xml, message] of REFUSED)
      assert.throws(() => parsePool(xml), { code: 'invalid-xml', message }, xml);
  });

  test('what is written is read as the same pool', () => {
    for (const xml of TAKEN) {
      const pool = parsePool(xml);
      assert.deepEqual(parsePool(formatPool(pool)), pool, xml);
    }
    const types = new Set([...TAKEN].map((xml) => parsePool(xml).type));
    const missing = Object.keys(POOL_TYPES).filter((type) => !types.has(type as never));
    assert.deepEqual(missing, ['iscsi-direct', 'mpath', 'btrfs', 'proxmox'], 'types without an example here');
  });

  test('a pool of a type that libvirt does not have is read and written in the same way', () => {
    const pool = parsePool(source('', 'btrfs', '<target><path>/srv//b</path></target>'));
    assert.equal(pool.target.path, '/srv/b');
    assert.deepEqual(parsePool(formatPool(pool)), pool);
    assert.throws(() => parsePool("<pool type='btrfs'><name>a</name></pool>"), {
      message: 'XML error: missing storage pool target path',
    });
  });

  test('the real virsh says the same, word for word', async () => {
    await using room = scratch();
    const file = join(room.path, 'pool.xml');
    const virsh = (...args: string[]) =>
      spawnSync('virsh', ['-q', '-c', 'test:///default', ...args], { encoding: 'utf8' });
    for (const [xml, message] of REFUSED) {
      writeFileSync(file, xml);
      const { status, stderr } = virsh('pool-define', file);
      assert.equal(status, 1, xml);
      assert.equal(stderr.trim().split('\n').at(-1), `error: ${message}`, xml);
    }
    for (const xml of TAKEN) {
      const pool = parsePool(xml);
      writeFileSync(file, xml);
      const { stdout, stderr } = virsh(`pool-define '${file}'; pool-dumpxml '${pool.name}'`);
      const dumped = stdout.slice(stdout.indexOf('<pool'));
      assert.equal(constant(formatPool(pool)), constant(dumped), `${xml}: ${stderr}`);
      // And what we write is by libvirt's schema.
      writeFileSync(file, formatPool(pool));
      execFileSync('virt-xml-validate', [file, 'storagepool'], { stdio: 'pipe' });
      const validated = virsh('pool-define', '--validate', file);
      assert.equal(validated.status, 0, `${xml}: ${validated.stderr}`);
    }
  });
});
