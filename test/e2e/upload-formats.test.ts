import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { TestController } from '../support/controller.ts';
import { isRoot, mountFileSystem, scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

describe('a file that is an image of another format', () => {
  const room = scratch();
  const file = (name: string): string => join(room.path, name);
  const convert = (name: string, format: string, ...options: string[]): void =>
    void execFileSync('qemu-img', [
      ...['convert', '-f', 'raw', '-O', format, ...options, file('raw'), file(name)],
    ]);
  let controller: TestController;
  let content: Buffer;

  const contentOf = async (volume: string): Promise<Buffer> => {
    await controller.cliOk(
      'vol',
      'download',
      `local/default/${volume}`,
      file(`${volume}.out`),
      '--as',
      'content',
    );
    return readFileSync(file(`${volume}.out`));
  };
  const uploads = async (): Promise<string[]> =>
    (JSON.parse(await controller.cliOk('--json', 'job', 'list')) as { kind: string; target: string }[])
      .filter(({ kind }) => kind === 'upload')
      .map(({ target }) => target);

  before(async () => {
    controller = await TestController.start(file('data'), []);
    content = Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(9 * MIB), Buffer.alloc(2 * MIB, 'text ')]);
    writeFileSync(file('raw'), content);
    convert('sparse.vmdk', 'vmdk');
    convert('packed.vmdk', 'vmdk', '-o', 'subformat=streamOptimized');
    convert('flat.vmdk', 'vmdk', '-o', 'subformat=monolithicFlat');
    convert('plain.qcow2', 'qcow2');
    convert('packed.qcow2', 'qcow2', '-c');
    convert('disk.vdi', 'vdi');
    writeFileSync(file('raw.gz'), gzipSync(content.subarray(0, MIB)));
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('what a guest sees of it becomes a volume of the format that is asked for', async () => {
    for (const [name, format, ...more] of [
      ['sparse.vmdk', 'qcow2'],
      ['packed.vmdk', 'raw'],
      ['packed.vmdk', 'qcow2', '--through-controller'],
      ['plain.qcow2', 'raw'],
      ['packed.qcow2', 'ploop'],
    ] as [string, string, ...string[]][]) {
      const volume = `${name}.${format}${more.length}`;
      const source = name.slice(name.indexOf('.') + 1);
      await controller.cliOk(
        ...['vol', 'upload', file(name), `local/default/${volume}`],
        ...['--source-format', source, '--format', format, ...more],
      );
      assert.ok((await contentOf(volume)).subarray(0, content.length).equals(content), volume);
      const { format: made } = JSON.parse(
        await controller.cliOk('--json', 'vol', 'show', `local/default/${volume}`),
      ) as { format: string };
      assert.equal(made, format);
    }
  });

  test('as content a container is refused before anything is begun, unless its bytes are meant', async () => {
    const before = await uploads();
    for (const [name, words] of [
      ['plain.qcow2', /looks like qcow2, .*--source-format qcow2 uploads what a guest sees/],
      ['sparse.vmdk', /--source-format vmdk/],
      ['disk.vdi', /convert it first/],
      ['raw.gz', /unpack it first/],
    ] as [string, RegExp][])
      for (const more of [[], ['--format', 'qcow2']])
        assert.match(
          await controller.cliRefused(
            'invalid-image',
            ...['vol', 'upload', file(name), 'local/default/x', '--as', 'content', ...more],
          ),
          words,
        );
    assert.deepEqual(await uploads(), before);
    // A guest may have an image on its disk: its bytes are what it sees.
    const nested = ['vol', 'upload', file('plain.qcow2'), 'local/default/nested'];
    await controller.cliOk(...nested, '--source-format', 'raw', '--format', 'qcow2');
    assert.ok((await contentOf('nested')).equals(readFileSync(file('plain.qcow2'))));
  });

  test('the API refuses it, too', async () => {
    const path = '/hosts/local/pools/default/volumes/api/data?as=content&format=qcow2';
    const put = (query: string): Promise<Response> =>
      controller.fetch(path + query, { method: 'PUT', body: readFileSync(file('plain.qcow2')) });
    const refused = await put('');
    assert.equal(refused.status, 422);
    assert.match(await refused.text(), /invalid-image/);
    assert.equal((await put('&sourceFormat=raw')).status, 201);
  });

  test('an image that does not stand alone, is cut, or is none leaves nothing', async () => {
    execFileSync('qemu-img', [
      ...['create', '-q', '-f', 'qcow2', '-b', file('plain.qcow2'), '-F', 'qcow2', file('over.qcow2')],
    ]);
    const secret = ['--object', 'secret,id=s,data=very-secret'];
    execFileSync('qemu-img', [
      ...['create', '-q', ...secret, '-f', 'qcow2', '-o', 'encrypt.format=luks,encrypt.key-secret=s'],
      ...[file('sealed.qcow2'), '1M'],
    ]);
    convert('cut.vmdk', 'vmdk');
    truncateSync(file('cut.vmdk'), 2 * MIB);
    const before = await uploads();
    for (const [name, format, code, words] of [
      ['over.qcow2', 'qcow2', 'invalid-image', /backing file/],
      ['sealed.qcow2', 'qcow2', 'not-supported', /--format and --secret/],
      ['flat.vmdk', 'vmdk', 'invalid-image', /only the description/],
      ['cut.vmdk', 'vmdk', 'invalid-image', /outside of it|cut/],
      ['raw', 'vmdk', 'invalid-image', /not a vmdk image/],
      ['raw', 'qcow2', 'invalid-image', /not a usable qcow2 image/],
      ['nowhere', 'vmdk', 'invalid-argument', /does not exist/],
    ] as [string, string, 'invalid-image', RegExp][])
      assert.match(
        await controller.cliRefused(
          code,
          ...['vol', 'upload', file(name), 'local/default/none', '--source-format', format],
        ),
        words,
      );
    assert.match(
      await controller.cliRefused(
        'invalid-argument',
        ...['vol', 'upload', file('sparse.vmdk'), 'local/default/none'],
        ...['--source-format', 'vmdk', '--as', 'image'],
      ),
      /cannot be used with --as image/,
    );
    assert.deepEqual(await uploads(), before);
    await controller.cliRefused('volume-not-found', 'vol', 'show', 'local/default/none');
  });

  test('a packed grain that is broken ends the upload, and its job', async () => {
    const bytes = readFileSync(file('packed.vmdk'));
    // Behind the first marker lies what is packed.
    bytes.fill(0xff, 65_536 + 12, 65_536 + 512);
    writeFileSync(file('broken.vmdk'), bytes);
    await controller.cliRefused(
      'invalid-image',
      ...['vol', 'upload', file('broken.vmdk'), 'local/default/broken'],
      ...['--source-format', 'vmdk', '--through-controller'],
    );
    const jobs = JSON.parse(await controller.cliOk('--json', 'job', 'list')) as {
      state: string;
      target: string;
    }[];
    const broken = jobs.filter(({ target }) => target === 'local/default/broken');
    assert.deepEqual(
      broken.map(({ state }) => state),
      ['cancelled'],
    );
    await controller.cliRefused('volume-not-found', 'vol', 'show', 'local/default/broken');
  });

  test('a format that the pool does not take is refused with those that it takes, and becomes no job', {
    skip: !isRoot && 'only root mounts file systems',
  }, async () => {
    const before = await uploads();
    mkdirSync(file('btrfs'));
    await using _mounted = await mountFileSystem('btrfs', 128, file('btrfs'));
    await controller.cliOk('pool', 'create', 'local/sub', '--type', 'btrfs', '--target', file('btrfs'));
    const upload = ['vol', 'upload', file('sparse.vmdk'), 'local/sub/v'];
    assert.match(
      await controller.cliRefused('not-supported', ...upload, '--format', 'vmdk'),
      /pool 'sub' holds no volumes of format vmdk: it takes raw, qcow2/,
    );
    assert.match(
      await controller.cliRefused(
        'not-supported',
        ...['vol', 'create', 'local/sub/v', '--format', 'vmdk', '--capacity', '1M'],
      ),
      /it takes raw, qcow2/,
    );
    assert.deepEqual(await uploads(), before);
    await controller.cliOk(...upload, '--source-format', 'vmdk');
    // A file there is a block device of its host, too.
    const device = (await controller.cliOk('vol', 'map', 'local/sub/v')).trim();
    try {
      assert.ok(readFileSync(device).equals(content));
      assert.match(
        await controller.cliRefused('volume-in-use', 'vol', 'delete', 'local/sub/v', '--yes'),
        new RegExp(`mapped as ${device}`),
      );
      assert.match(await controller.cliOk('vol', 'show', 'local/sub/v'), new RegExp(`mapped as +${device}`));
    } finally {
      await controller.cliOk('vol', 'unmap', 'local/sub/v');
    }
    await controller.cliOk('vol', 'base', 'local/sub/v');
    const readOnly = (await controller.cliOk('vol', 'map', 'local/sub/v')).trim();
    assert.throws(() => writeFileSync(readOnly, 'x', { flag: 'r+' }));
    await controller.cliOk('vol', 'unmap', 'local/sub/v');
    await controller.cliOk('pool', 'stop', 'local/sub');
  });
});
