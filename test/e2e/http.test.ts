import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseVolume } from '../../shared/conf/volume-xml.ts';
import { execute, TestController, until } from '../support/controller.ts';
import { ploopTool } from '../support/ploop-tool.ts';
import { scratch, sha256 } from '../support/scratch.ts';

const MIB = 1 << 20;

/** Uploads and downloads with the tools that people have, against `npm start`'s own controller with its local agent. */
describe('plain HTTP', () => {
  const room = scratch();
  let controller: TestController;
  let pool: string;
  const image = join(room.path, 'image');
  const url = (name: string, what = 'data', query = ''): string =>
    `${controller.url}/api/v1/hosts/local/pools/default/volumes/${name}/${what}${query}`;
  const curl = (...args: string[]) =>
    execute('curl', ['-sS', '-H', `authorization: Bearer ${controller.token}`, ...args]);

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), []);
    pool = join(room.path, 'data/pools/default');
    writeFileSync(image, randomBytes(30 * MIB + 12345));
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  test('the first start has made a pool, ready to use', async () => {
    assert.match(await controller.cliOk('pool', 'list'), /local\/default\s+dir\s+running/);
  });

  test('curl uploads, and downloads the same bytes with their length and a tag', async () => {
    const up = await curl('-T', image, url('a'));
    assert.equal(JSON.parse(up.stdout).name, 'a', up.stdout + up.stderr);
    assert.equal(await sha256(join(pool, 'a')), await sha256(image));
    const head = await curl('-I', url('a'));
    assert.match(head.stdout, /content-length: 31469625/i);
    assert.match(head.stdout, /etag: "/i);
    assert.match(head.stdout, /accept-ranges: bytes/i);
    const back = join(room.path, 'back');
    await curl('-o', back, url('a'));
    assert.equal(await sha256(back), await sha256(image));
  });

  test('an upload that was cut goes on where it stopped', async () => {
    // curl gives up after a second; the speed limit lets some of the file through.
    const cut = await curl('--limit-rate', '8M', '--max-time', '2', '-T', image, url('b'));
    assert.notEqual(cut.status, 0);
    const offset = await until('some of it is there', async () => {
      const head = await curl('-I', url('b', 'upload'));
      const at = Number(/upload-offset: (\d+)/i.exec(head.stdout)?.[1]);
      return at > 0 && at;
    });
    assert.ok(offset < statSync(image).size);
    const rest = await curl('-C', String(offset), '-T', image, url('b'));
    assert.equal(JSON.parse(rest.stdout).name, 'b', rest.stdout);
    assert.equal(await sha256(join(pool, 'b')), await sha256(image));
  });

  test('an upload that goes on at the wrong place is told the right one', async () => {
    await curl('--limit-rate', '8M', '--max-time', '1', '-T', image, url('c'));
    const wrong = await curl('-C', String(28 * MIB), '-T', image, url('c'));
    assert.match(wrong.stdout, /upload-offset/);
    await curl('-X', 'DELETE', url('c', 'upload'));
    assert.equal((await curl('-o', '/dev/null', '-w', '%{http_code}', url('c', 'upload'))).stdout, '404');
  });

  test('curl and wget go on with a download that was cut', async () => {
    for (const tool of ['curl', 'wget'] as const) {
      const part = join(room.path, `part-${tool}`);
      writeFileSync(part, readFileSync(image).subarray(0, 5 * MIB + 77));
      const result =
        tool === 'curl'
          ? await curl('-C', '-', '-o', part, url('a'))
          : await execute('wget', [
              '-q',
              '-c',
              '-O',
              part,
              '--header',
              `authorization: Bearer ${controller.token}`,
              url('a'),
            ]);
      assert.equal(result.status, 0, result.stderr);
      assert.equal(await sha256(part), await sha256(image));
    }
  });

  test('ranges: the middle, the end, beyond the end, and one of a volume that changed', async () => {
    const bytes = readFileSync(image);
    const get = async (range: string, headers: Record<string, string> = {}) => {
      const response = await controller.fetch('/hosts/local/pools/default/volumes/a/data', {
        headers: { range, ...headers },
      });
      return { status: response.status, body: Buffer.from(await response.arrayBuffer()) };
    };
    const middle = await get('bytes=1000-1999');
    assert.equal(middle.status, 206);
    assert.ok(middle.body.equals(bytes.subarray(1000, 2000)));
    const end = await get('bytes=-500');
    assert.ok(end.body.equals(bytes.subarray(-500)));
    assert.equal((await get(`bytes=${bytes.length}-`)).status, 416);
    const stale = await get('bytes=1000-1999', { 'if-range': '"another"' });
    assert.equal(stale.status, 200, 'all of it, as it is another volume now');
  });

  test('a ploop image goes up by curl, gets its descriptor, and comes down as content', async () => {
    const source = join(room.path, 'source');
    mkdirSync(source);
    writeFileSync(join(room.path, 'content'), randomBytes(3 * MIB));
    truncateSync(join(room.path, 'content'), 16 * MIB);
    await controller.cliOk(
      'vol',
      'upload',
      join(room.path, 'content'),
      'local/default/ct',
      '--format',
      'ploop',
      '--as',
      'content',
    );
    await controller.cliOk('vol', 'download', 'local/default/ct', join(room.path, 'root.hds'));
    const up = await curl('-T', join(room.path, 'root.hds'), url('ct2', 'data', '?format=ploop'));
    assert.equal(JSON.parse(up.stdout).format, 'ploop', up.stdout);
    assert.equal(ploopTool('check', '-f', join(pool, 'ct2/root.hds')).status, 0);
    const back = join(room.path, 'content-back');
    await curl('-o', back, url('ct2', 'data', '?as=content'));
    assert.equal(await sha256(back), await sha256(join(room.path, 'content')));
  });

  test('the OpenAPI document names the routes, and events come over WebSocket', async () => {
    const document = (await (await fetch(`${controller.url}/api/v1/openapi.json`)).json()) as {
      paths: Record<string, unknown>;
    };
    assert.ok(Object.keys(document.paths).length > 20);
    const { WebSocket } = await import('ws');
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${controller.token}` },
    });
    const events: { type: string; volume?: string }[] = [];
    socket.on('message', (data) => events.push(JSON.parse(data.toString())));
    await new Promise((resolve) => socket.once('open', resolve));
    await controller.cliOk('vol', 'create', 'local/default/told', '--capacity', '1M');
    await until('the event', () =>
      events.some((event) => event.type === 'volume' && event.volume === 'told'),
    );
    socket.terminate();
    const refused = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`);
    const status = await new Promise((resolve) => {
      refused.once('unexpected-response', (_request, response) => resolve(response.statusCode));
      refused.once('error', () => undefined);
    });
    assert.equal(status, 401);
  });

  test('completion and exit statuses', async () => {
    assert.match(await controller.cliOk('completion'), /complete .*stowage/);
    assert.equal((await controller.cli('vol', 'frobnicate')).status, 2);
    assert.equal((await controller.cli('vol', 'show', 'local/default/missing')).status, 3);
    assert.equal((await controller.cliAs('stow_wrong-token', 'vol', 'list')).status, 5);
    const json = await controller.cli('--json', 'vol', 'show', 'local/default/missing');
    assert.equal(JSON.parse(json.stderr).code, 'volume-not-found');
  });

  test("libvirt's documents define pools, and tell of pools and volumes", async () => {
    const uuid = '70a7eb15-6c34-ee9c-bf57-69e8e5ff3fb2';
    const target = join(room.path, 'defined');
    const document = (inner: string): string => {
      writeFileSync(join(room.path, 'pool.xml'), inner);
      return join(room.path, 'pool.xml');
    };
    const good = `<pool type='dir'><name>defined</name><uuid>${uuid}</uuid><target><path>${target}//</path></target></pool>`;
    const file = document(good);
    assert.match(
      await controller.cliOk('pool', 'define', 'local', file, '--build', '--start'),
      /pool local\/defined is running/,
    );
    const dumped = await controller.cliOk('pool', 'dumpxml', 'local/defined');
    assert.match(
      dumped,
      new RegExp(`^<pool type='dir'>\n {2}<name>defined</name>\n {2}<uuid>${uuid}</uuid>`),
    );
    assert.match(dumped, new RegExp(`<path>${target}</path>`));
    assert.equal((await controller.cli('pool', 'define', 'local', file)).status, 4, 'it is there already');

    await controller.cliOk('vol', 'create', 'local/defined/v', '--capacity', '3M', '--format', 'qcow2');
    const volume = parseVolume(await controller.cliOk('vol', 'dumpxml', 'local/defined/v'), { pool: 'dir' });
    assert.deepEqual(
      { ...volume, allocationBytes: 0n },
      {
        type: 'file',
        name: 'v',
        key: join(target, 'v'),
        capacityBytes: 3145728n,
        allocationBytes: 0n,
        target: { ...volume.target, path: join(target, 'v'), format: 'qcow2' },
        backingStore: undefined,
      },
    );

    const refused: [string, RegExp][] = [
      ["<pool type='dir'/>", /XML error: missing pool source name element \[invalid-xml\]/],
      [
        good.replace('<target>', '<target><permissions><mode>0700</mode><label>l</label></permissions>'),
        /<label>.*not-supported/,
      ],
      [good.replace('defined', '..'), /invalid-argument|invalid-name/],
      [good.replace("'dir'", "'mpath'").replace('>defined<', '>other<'), /'?mpath'?/],
      [`<!DOCTYPE pool [<!ENTITY a "b">]>${good}`, /document type/],
    ];
    for (const [xml, message] of refused) {
      const { status, stderr } = await controller.cli('pool', 'define', 'local', document(xml));
      assert.notEqual(status, 0, xml);
      assert.match(stderr, message, xml);
    }
    // A viewer is refused for what he is, whatever he sends.
    const viewer = (await controller.cliOk('token', 'create', 'eve', '--role', 'viewer')).trim();
    const { stderr } = await controller.cliAs(viewer, 'pool', 'define', 'local', document('<junk'));
    assert.match(stderr, /forbidden/);
  });
});
