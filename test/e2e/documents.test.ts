import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { TestController } from '../support/controller.ts';
import { isRoot, scratch } from '../support/scratch.ts';

/** Pools and volumes by libvirt's documents, against `npm start`'s own controller with its local agent. */
describe('documents of pools and volumes', () => {
  const room = scratch();
  let controller: TestController;
  const at = (name: string): string => join(room.path, name);
  const file = (name: string, text: string): string => {
    writeFileSync(at(name), text);
    return at(name);
  };
  const refused = (code: string, ...args: string[]): Promise<string> => controller.cliRefused(code, ...args);

  before(async () => {
    controller = await TestController.start(at('data'), []);
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('create-as --print-xml writes what virsh writes', async () => {
    const cases = [
      'p dir --target /t',
      'p fs --source-dev /dev/x --source-format ext4 --target /t',
      'p netfs --source-host h --source-path /e --source-format nfs --target /t --source-protocol-ver 4',
      'p iscsi --source-host h --source-dev iqn --source-initiator iqi --auth-type chap --auth-username u --secret-usage s --target /d',
      'p rbd --source-host h --source-name r --auth-type ceph --auth-username u --secret-uuid 2ec115d7-3a88-3ceb-bc12-0ac909a6fd87',
      'p scsi --adapter-wwnn a --adapter-wwpn b --adapter-parent-wwnn c --adapter-parent-wwpn d --target /t',
      'p scsi --adapter-name host0 --target /t',
      'p disk --source-dev /a --source-format gpt',
    ];
    for (const options of cases) {
      const virsh = execFileSync(
        'virsh',
        ['-q', '-c', 'test:///default', `pool-create-as ${options} --print-xml`],
        {
          encoding: 'utf8',
        },
      );
      const ours = await controller.cliOk('pool', 'create-as', 'local', ...options.split(' '), '--print-xml');
      assert.equal(ours.trim(), virsh.trim());
    }
    assert.match(
      await refused(
        'invalid-argument',
        'pool',
        'create-as',
        'local',
        'p',
        'rbd',
        '--secret-usage',
        'a',
        '--secret-uuid',
        'b',
        '--print-xml',
      ),
      /Options --secret-usage and --secret-uuid are mutually exclusive/,
    );
  });

  test('a pool is created by options or by its document', async () => {
    mkdirSync(at('two'));
    assert.equal(
      await controller.cliOk('pool', 'create-as', 'local', 'one', 'dir', '--target', at('one'), '--build'),
      'pool local/one is running\n',
    );
    const document = file(
      'two.xml',
      `<pool type='dir'><name>two</name><target><path>${at('two')}</path></target></pool>`,
    );
    assert.equal(await controller.cliOk('pool', 'create', 'local', document), 'pool local/two is running\n');
    await refused('invalid-argument', 'pool', 'create', 'local/three');
    await refused(
      'invalid-xml',
      'pool',
      'create',
      'local',
      file('bad.xml', "<pool type='dir'><name>x</name></pool>"),
    );
  });

  test('the directory of a pool gets the permissions of its document, which are given out again', async () => {
    const document = file(
      'kept.xml',
      `<pool type='dir'><name>kept</name><target><path>${at('kept')}</path><permissions><mode>0750</mode><group>${isRoot ? 1235 : -1}</group></permissions></target></pool>`,
    );
    await controller.cliOk('pool', 'create', 'local', document);
    const stat = statSync(at('kept'));
    assert.equal(stat.mode & 0o777, 0o750);
    if (isRoot) assert.equal(stat.gid, 1235);
    assert.match(
      await controller.cliOk('pool', 'dumpxml', 'local/kept'),
      /<permissions>\n {6}<mode>0750<\/mode>/,
    );
  });

  test('a directory that others may write to is no pool, nor one in which our own place is a link', async () => {
    const open = file(
      'open.xml',
      `<pool type='dir'><name>open</name><target><path>${at('open')}</path><permissions><mode>0777</mode></permissions></target></pool>`,
    );
    await refused('not-supported', 'pool', 'create', 'local', open);
    mkdirSync(at('victim/new'), { recursive: true });
    mkdirSync(at('linked'));
    symlinkSync(at('victim'), at('linked/.stowage'));
    await refused(
      'path-escapes-pool',
      'pool',
      'create',
      'local/linked',
      '--type',
      'dir',
      '--target',
      at('linked'),
    );
    assert.ok(existsSync(at('victim/new')));
  });

  test('a host tells which pools it can have, and which sources it cannot look for', async () => {
    const document = await controller.cliOk('pool', 'capabilities', 'local');
    assert.match(document, /<pool type='dir' supported='yes'>.*<value>ploop<\/value>/s);
    assert.match(document, /<pool type='sheepdog' supported='no'>/);
    assert.match(
      await refused('not-supported', 'pool', 'find-sources', 'local', 'dir'),
      /pool type 'dir' does not support source discovery/,
    );
    assert.match(
      await refused('not-supported', 'pool', 'find-sources', 'local', 'sheepdog'),
      /missing backend for pool type 'sheepdog'/,
    );
  });

  test('a stopped pool is edited; a running one, another name and another UUID are refused, and the text is kept', async () => {
    const edit = (script: string) =>
      controller.cliIn({ EDITOR: `sed -i -e ${script}` }, 'pool', 'edit', 'local/two');
    mkdirSync(at('moved'));
    const running = await edit(`s,${at('two')},${at('moved')},`);
    assert.match(running.stderr, /what you wrote is kept in (\S+).*\[pool-active\]/s);
    const kept = /kept in (\S+)/.exec(running.stderr)![1]!;
    assert.match(execFileSync('cat', [kept], { encoding: 'utf8' }), /moved/);
    execFileSync('rm', ['-r', join(kept, '..')]);
    await controller.cliOk('pool', 'stop', 'local/two');
    assert.equal((await edit('s,x,x,')).stdout, 'pool local/two not changed\n');
    assert.match((await edit('s,two,else,')).stderr, /a pool keeps its name/);
    assert.match(
      (await edit("'s,<uuid>.*<,<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809<,'")).stderr,
      /already exists with uuid/,
    );
    assert.equal((await edit(`s,${at('two')},${at('moved')},`)).stdout, 'pool local/two edited\n');
    await controller.cliOk('pool', 'start', 'local/two');
    assert.match(await controller.cliOk('pool', 'show', 'local/two'), new RegExp(`target +${at('moved')}\n`));
  });

  test('a volume is created by its document, and by what dumpxml gives out', async () => {
    const ids = isRoot ? '<owner>1234</owner><group>1235</group>' : '';
    const document = file(
      'v.xml',
      `<volume><name>v.qcow2</name><capacity unit='M'>8</capacity><target><format type='qcow2'/><permissions><mode>0640</mode>${ids}</permissions><compat>1.1</compat><clusterSize unit='K'>128</clusterSize><features><lazy_refcounts/></features></target></volume>`,
    );
    assert.match(
      await controller.cliOk('vol', 'create', 'local/one', '--xml', document),
      /^local\/one\/v.qcow2: qcow2, 8.00 MiB/,
    );
    const path = at('one/v.qcow2');
    const stat = statSync(path);
    assert.equal(stat.mode & 0o777, 0o640);
    if (isRoot) assert.deepEqual([stat.uid, stat.gid], [1234, 1235]);
    const info = JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' }));
    assert.equal(info['cluster-size'], 128 << 10);
    assert.equal(info['format-specific'].data['lazy-refcounts'], true);

    const dumped = (await controller.cliOk('vol', 'dumpxml', 'local/one/v.qcow2')).replace(
      'v.qcow2<',
      'w.qcow2<',
    );
    await controller.cliOk('vol', 'create', 'local/one', '--xml', file('w.xml', dumped));
    assert.match(await controller.cliOk('vol', 'list', 'local/one'), /w.qcow2/);
  });

  test('a raw volume has its blocks unless its document says otherwise, as in libvirt', async () => {
    const raw = (name: string, allocation: string): string =>
      file(
        `${name}.xml`,
        `<volume><name>${name}</name><capacity unit='M'>4</capacity>${allocation}</volume>`,
      );
    await controller.cliOk('vol', 'create', 'local/one', '--xml', raw('full', ''));
    await controller.cliOk(
      'vol',
      'create',
      'local/one',
      '--xml',
      raw('sparse', '<allocation>0</allocation>'),
    );
    assert.ok(statSync(at('one/full')).blocks * 512 >= 4 << 20);
    assert.equal(statSync(at('one/sparse')).blocks, 0);
  });

  test('what a volume here cannot be is refused, and nothing is made', async () => {
    const cases: [string, string][] = [
      ["<target><format type='vdi'/></target>", 'not-supported'],
      [
        "<target><format type='raw'/><encryption format='luks'><secret type='passphrase' usage='u'/></encryption></target>",
        'secret-not-found',
      ],
      [
        "<target><format type='qcow2'/><encryption format='qcow'><secret type='passphrase' usage='u'/></encryption></target>",
        'not-supported',
      ],
      [
        "<target><format type='qcow2'/></target><backingStore><path>/b</path><format type='raw'/></backingStore>",
        'not-supported',
      ],
      [
        "<target><format type='qcow2'/><compat>0.10</compat><features><lazy_refcounts/></features></target>",
        'invalid-xml',
      ],
      ["<target><format type='nonsense'/></target>", 'invalid-xml'],
    ];
    for (const [inner, code] of cases)
      await refused(
        code,
        'vol',
        'create',
        'local/one',
        '--xml',
        file('no.xml', `<volume><name>no</name><capacity>1024</capacity>${inner}</volume>`),
      );
    await refused('invalid-argument', 'vol', 'create', 'local/one/no');
    assert.doesNotMatch(await controller.cliOk('vol', 'list', 'local/one'), /\/no /);
  });
});
