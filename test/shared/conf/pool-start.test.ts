import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { startCommand } from '../../../shared/conf/pool-start.ts';
import { parsePool } from '../../../shared/conf/pool-xml.ts';
import { libvirtFile, libvirtFiles, withoutLibvirtData } from '../../support/libvirt-data.ts';

const netfs = (source: string, more = ''): string =>
  `<pool type='netfs'${more && " xmlns:fs='http://libvirt.org/schemas/storagepool/fs/1.0'"}><name>n</name><source><host name='h'/><dir path='/e'/>${source}</source><target><path>/mnt</path></target>${more}</pool>`;

describe('what starts a pool', () => {
  test("is what libvirt's own files say", { skip: withoutLibvirtData }, () => {
    let compared = 0;
    const documents = new Set(libvirtFiles('pool-in'));
    for (const file of libvirtFiles('pool-argv')) {
      const [, name = '', system = 'other'] = /^(.*?)(?:-(linux|freebsd))?\.argv$/.exec(file) ?? [];
      if (!documents.has(`${name}.xml`)) continue;
      const expected = libvirtFile(`pool-argv/${file}`).replaceAll('\\\n', '').trim();
      const pool = parsePool(libvirtFile(`pool-in/${name}.xml`));
      assert.equal(startCommand(pool, system as 'linux').join(' '), expected, file);
      compared++;
    }
    assert.ok(compared >= 11, `${compared} files`);
  });

  test('a mount has the options of its format, its protocol and its own', () => {
    const mount = (xml: string) => startCommand(parsePool(xml), 'linux').join(' ');
    assert.equal(
      mount(netfs("<format type='cifs'/>")),
      'mount -o nodev,nosuid,noexec,guest -t cifs //h/e /mnt',
    );
    assert.equal(
      mount(
        netfs(
          "<format type='nfs'/><protocol ver='4.1'/>",
          "<fs:mount_opts><fs:option name='sync'/><fs:option name='lazytime'/></fs:mount_opts>",
        ),
      ),
      'mount -o nodev,nosuid,noexec,nfsvers=4.1,sync,lazytime -t nfs h:/e /mnt',
    );
    assert.equal(
      mount(
        "<pool type='fs'><name>f</name><source><device path='/dev/sda6'/><format type='ext3'/></source><target><path>/mnt</path></target></pool>",
      ),
      'mount -o nodev,nosuid,noexec -t ext3 /dev/sda6 /mnt',
    );
  });

  test('no other pool is started by a command', () => {
    const dir = parsePool("<pool type='dir'><name>d</name><target><path>/d</path></target></pool>");
    assert.throws(() => startCommand(dir, 'linux'), { code: 'not-supported' });
  });
});
