import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { formatCapabilities } from '../../../shared/conf/capabilities-xml.ts';
import { POOL_TYPES } from '../../../shared/conf/pool-types.ts';
import { formatSources, glusterSources } from '../../../shared/conf/sources-xml.ts';
import { libvirtFile, withoutLibvirtData } from '../../support/libvirt-data.ts';
import { scratch } from '../../support/scratch.ts';

const all = Object.keys(POOL_TYPES).map((type) => ({ type }));

describe('what a host can have', () => {
  test("is told as in libvirt's own files", { skip: withoutLibvirtData }, () => {
    assert.equal(formatCapabilities(all), libvirtFile('pool-caps/poolcaps-full.xml'));
    assert.equal(formatCapabilities([{ type: 'fs' }]), libvirtFile('pool-caps/poolcaps-fs.xml'));
  });

  test('names the formats that a backend has, and holds to the schema of libvirt', async () => {
    await using room = scratch();
    const document = formatCapabilities([{ type: 'dir', volumeFormats: ['qcow2', 'raw'] }, { type: 'mine' }]);
    assert.match(
      document,
      /<pool type='dir' supported='yes'>.*?<value>raw<\/value>\s*<value>qcow2<\/value>\s*<\/enum>/s,
    );
    assert.doesNotMatch(document, /mine/);
    const file = join(room.path, 'capabilities.xml');
    writeFileSync(file, document);
    execFileSync('virt-xml-validate', [file, 'storagepoolcaps'], { stdio: 'pipe', timeout: 10_000 });
  });
});

describe('what was found for pools', () => {
  for (const name of ['basic', 'multivol'])
    test(`gluster's volumes, ${name}, as libvirt reads them`, { skip: withoutLibvirtData }, () => {
      const output = libvirtFile(`storageutil/gluster-parse-${name}-src.xml`);
      for (const [pool, file] of [
        ['gluster', 'native'],
        ['netfs', 'netfs'],
      ] as const)
        assert.equal(
          formatSources(glusterSources(output, 'testhost', pool)),
          libvirtFile(`storageutil/gluster-parse-${name}-${file}.xml`),
        );
    });

  test('devices and names, and nothing', () => {
    assert.equal(
      formatSources([{ devices: ['/dev/a', '/dev/b'], name: 'vg', format: 'lvm2' }]),
      "<sources>\n  <source>\n    <device path='/dev/a'/>\n    <device path='/dev/b'/>\n    <name>vg</name>\n    <format type='lvm2'/>\n  </source>\n</sources>\n",
    );
    assert.equal(formatSources([]), '<sources>\n</sources>\n');
  });
});
