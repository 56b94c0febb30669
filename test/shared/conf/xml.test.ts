import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { formatDisk, parseDisk } from '../../../shared/conf/disk/disk.ts';
import { checkDisk } from '../../../shared/conf/disk/rules.ts';
import { checkDomain } from '../../../shared/conf/domain-rules.ts';
import { formatDomain, parseDomain } from '../../../shared/conf/domain-xml.ts';
import { formatPool, parsePool } from '../../../shared/conf/pool-xml.ts';
import { formatVolume, parseVolume } from '../../../shared/conf/volume-xml.ts';
import { readXml } from '../../../shared/conf/xml/read.ts';
import { isStowageError } from '../../../shared/util/errors.ts';

const live = { live: true };
const RUNS = Number(process.env.STOWAGE_FUZZ_RUNS ?? 3000);

describe('a hostile document', () => {
  const refused: [string, string, RegExp][] = [
    ['a document type', "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", /^line 1: a document type/],
    ['an entity', '\n<!DOCTYPE a [<!ENTITY b "&c;&c;">]><a>&b;</a>', /^line 2: a document type/],
    ['an unknown entity', '<a>\n<b>&foo;</b></a>', /^line 2: '&foo;'/],
    ['an ampersand alone', "<a b='1 & 2'/>", /^line 1: '& 2'/],
    ['a reference to NUL', '<a>&#0;</a>', /^line 1: '&#0;'/],
    ['a reference beyond Unicode', '<a>&#x110000;</a>', /^line 1/],
    ['NUL', '<a>\n\u0000</a>', /^line 2: the character U\+0000/],
    ['a character that turns the text', '<a>\n\u202e</a>', /^line 2: the character U\+202e/],
    ['a reference to one', '<a>&#x202e;</a>', /^line 1: '&#x202e;'/],
    ['half a surrogate pair', '<a>\ud800</a>', /^line 1: the character U\+d800/],
    ['an end tag that is another', '<a>\n<b>\n</a>', /^line 3/],
    ['no end', '<a><b/>', /./],
    ['two roots', '<a/><a/>', /one element/],
    ['junk behind the root', '<a/>junk', /one element/],
    ['nothing', '', /./],
    ['no markup', 'hello', /./],
    ['a repeated attribute', "<a b='1' b='2'/>", /^line 1.*repeated/],
    ['a value without quotes', '<a b=1/>', /^line 1/],
    ['markup in a value', "<a b='<'/>", /^line 1: element 'a': the value of attribute 'b'/],
    ['another root', '<vol/>', /expecting <a>/],
    ['a thousand levels', `${'<a>'.repeat(1000)}${'</a>'.repeat(1000)}`, /nested/],
    ['a million levels', '<a>'.repeat(1_000_000), /nested/],
    ['a name that is a trap', "<a><__proto__ x='1'/></a>", /./],
    ['an attribute that is a trap', "<a __proto__='x'/>", /./],
  ];
  for (const [what, xml, message] of refused) {
    test(`${what} is refused`, () => {
      assert.throws(() => readXml(xml, 'a'), { code: 'invalid-xml', message });
    });
  }

  test('a second element where there is one is refused, with its line', () => {
    const xml = "<pool type='dir'>\n<name>a</name>\n<name>b</name><target><path>/x</path></target></pool>";
    assert.throws(() => parsePool(xml), { code: 'invalid-xml', message: 'line 3: a second element <name>' });
  });

  test('10 MB are refused before they are parsed', () => {
    assert.throws(() => readXml(`<a>${'<b/>'.repeat(2_500_000)}</a>`, 'a'), { code: 'too-large' });
  });

  test('what is allowed is read as XML means it', () => {
    const element = readXml(
      `<?xml version="1.0" encoding="UTF-8"?>\n<!-- <!-- a comment -->\n<a x="1 &lt; &#x32; &quot;"\n y='\u00e9'>\n<b/>t&amp;<![CDATA[<&>]]>u<b z=''/></a>\n`,
      'a',
    );
    assert.equal(element.attribute('x'), '1 < 2 "');
    assert.equal(element.attribute('y'), '\u00e9');
    assert.equal(element.text, '\nt&<&>u');
    assert.deepEqual(
      element.all('b').map(({ line }) => line),
      [5, 5],
    );
    assert.equal(element.all('b')[1]!.attribute('z'), undefined);
  });

  test(`whatever is done to a document, it is one still or a clear error (${RUNS} runs)`, () => {
    const seeds = [
      "<pool type='netfs'><name>a</name><uuid>70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2</uuid><source><host name='h' port='1'/><dir path='/e//'/><format type='nfs'/><protocol ver='4.1'/></source><target><path>/x</path><permissions><mode>0700</mode><owner>-1</owner></permissions></target></pool>",
      "<pool type='iscsi'><name>a</name><source><host name='h'/><device path='/d'/><auth type='chap' username='u'><secret usage='x'/></auth><vendor name='v'/></source><target><path>/x</path></target></pool>",
      "<pool type='rbd' xmlns:rbd='http://libvirt.org/schemas/storagepool/rbd/1.0'><name>a</name><source><host name='h'/><name>r</name></source><rbd:config_opts><rbd:option name='n' value='v'/></rbd:config_opts></pool>",
      "<pool type='scsi'><name>a</name><source><adapter type='scsi_host'><parentaddr unique_id='5'><address domain='0x0' bus='0x0' slot='0x1f' function='0x2'/></parentaddr></adapter></source><target><path>/x</path></target></pool>",
      "<volume type='file'><name>v</name><key>k</key><capacity unit='GiB'>10</capacity><allocation unit='KB'>1</allocation><target><path>/x//y</path><format type='qcow2'/><permissions><mode>0600</mode><owner>1</owner><label>l</label></permissions><encryption format='luks'><secret type='passphrase' usage='u'/><cipher name='aes' size='256'/><ivgen name='plain64'/></encryption><compat>1.1</compat><clusterSize unit='KiB'>64</clusterSize><features><lazy_refcounts/></features><nocow/></target><backingStore><path>/b</path><format type='raw'/></backingStore></volume>",
      "<disk type='network' device='disk' snapshot='no'><driver name='qemu' type='qcow2' cache='none' iothread='1' queues='2'><metadata_cache><max_size unit='KiB'>4</max_size></metadata_cache></driver><source protocol='rbd' name='p/i' tls='yes' index='3'><host name='h' port='1'/><host transport='unix' socket='/s'/><snapshot name='s'/><auth username='u'><secret type='ceph' usage='s'/></auth><slices><slice type='storage' offset='1' size='2'/></slices></source><backingStore type='file' index='4'><format type='raw'/><source file='/b'/><backingStore/></backingStore><mirror type='block' job='copy' ready='yes'><format type='raw'/><source dev='/dev/c'/></mirror><target dev='sda' bus='scsi' rotation_rate='1'/><iotune><total_bytes_sec>1</total_bytes_sec><group_name>g</group_name></iotune><serial>s</serial><boot order='1'/><alias name='ua-x'/><address type='drive' controller='0' bus='0' target='0' unit='3'/></disk>",
      "<domain type='kvm' id='1'><name>d</name><uuid>70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2</uuid><iothreads>2</iothreads><os><type>hvm</type></os><devices><emulator>/e</emulator><disk device='cdrom'><target dev='hda' tray='open'/></disk><disk type='volume'><source pool='p' volume='v'/><target dev='vdb'/><address type='pci' slot='0x1f' function='7'/></disk><disk type='nvme'><source type='pci' namespace='1'><address bus='0xff'/></source><target dev='vda'/></disk><console type='pty'><target type='serial' port='0'/></console></devices></domain>",
    ];
    const roundTrip = (seed: string, xml: string): void => {
      if (seed.startsWith('<pool')) {
        const pool = parsePool(xml);
        assert.deepEqual(parsePool(formatPool(pool)), pool);
      } else if (seed.startsWith('<disk')) {
        const disk = parseDisk(xml, live);
        const written = formatDisk(disk, live);
        assert.equal(formatDisk(parseDisk(written, live), live), written);
        checkDisk(disk, { qemu: true });
      } else if (seed.startsWith('<domain')) {
        const domain = parseDomain(xml, live);
        const written = formatDomain(domain, live);
        assert.equal(formatDomain(parseDomain(written, live), live), written);
        checkDomain(domain);
      } else {
        const volume = parseVolume(xml, { pool: 'dir' });
        assert.deepEqual(parseVolume(formatVolume(volume), { pool: 'dir' }), volume);
      }
    };
    const pieces = [
      ...new Set(seeds.flatMap((seed) => seed.match(/<\/?[\w:]+|\w+='[^']*'|\/?>|[^<>]+/g) ?? [])),
      '&',
      '&#',
      ']]>',
      '<!--',
      '-->',
      '<![CDATA[',
      '\u0000',
      '\u202e',
      '9'.repeat(30),
      '-1',
      '__proto__',
    ];
    const edit = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      drop: fc.nat(12),
      put: fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 6, unit: 'binary' })),
    });
    let taken = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds),
        fc.array(edit, { minLength: 1, maxLength: 4 }),
        (seed, edits) => {
          let xml = seed;
          for (const { at, drop, put } of edits) {
            const position = Math.floor(at * xml.length);
            xml = xml.slice(0, position) + put + xml.slice(position + drop);
          }
          try {
            roundTrip(seed, xml);
            taken++;
          } catch (error) {
            if (!isStowageError(error, 'invalid-xml')) throw error;
          }
        },
      ),
      { numRuns: RUNS },
    );
    assert.ok(taken > 0, 'some were still documents');
  });
});
