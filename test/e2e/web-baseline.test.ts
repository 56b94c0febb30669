import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request as rawRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { ROUTES } from '../../controller/doors/rest/routes.ts';
import type { Invitation } from '../../shared/protocol/api.ts';
import { TestController, until } from '../support/controller.ts';
import { JSON_BODY, PASSWORD } from '../support/people.ts';
import { scratch } from '../support/scratch.ts';

/**
 * The rules of ZAP's baseline scan (https://www.zaproxy.org/docs/alerts/; the number of each is in its name) that are about a server
 * such as this one, over everything that it answers to GET; ZAP itself cannot be had here.
 */
describe('the baseline of a web server', () => {
  const room = scratch();
  let controller: TestController;
  /** What was answered, by path. */
  const answers = new Map<string, { response: Response; body: string }>();
  const isPage = (path: string): boolean => !/^\/(api|assets|metrics|healthz|readyz)/.test(path);

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), []);
    await until('the first pool', async () => (await controller.cliOk('pool', 'list')).includes('running'));
    await controller.cliOk('vol', 'create', 'local/default/v', '--format', 'raw', '--capacity', '64K');
    const values: Record<string, string> = {
      host: 'local',
      pool: 'default',
      volume: 'v',
      type: 'dir',
      job: '1',
    };
    const paths = ROUTES.filter(({ method }) => method === 'GET').map(({ path }) =>
      path.replace(/:(\w+)/g, (_all, name: string) => values[name] ?? 'absent'),
    );
    const page = await (await fetch(controller.url)).text();
    const assets = [...page.matchAll(/"(\/assets\/[^"]+)"/g)].map(([, path]) => path!);
    assert.equal(assets.length, 2);
    const volume = '/api/v1/hosts/local/pools/default/volumes/v';
    for (const path of [
      ...paths,
      ...assets,
      ...['/', '/volumes', '/no/such/page', '/.git/config', '/.env', '/api/v1/absent', '/assets/absent'],
      ...[
        '/api/v1/openapi.json',
        '/api/v1/session',
        '/healthz',
        '/readyz',
        `${volume}/data`,
        '/api/v1/jobs/x',
      ],
    ]) {
      const response = await fetch(`${controller.url}${path}`, {
        headers: { authorization: `Bearer ${controller.token}`, origin: 'https://evil.example' },
        redirect: 'manual',
      });
      answers.set(path, { response, body: await response.text() });
    }
  });
  after(async () => {
    await controller?.[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** Runs a check over all answers, and names those that do not pass. */
  function each(passes: (header: (name: string) => string, path: string, body: string) => boolean): void {
    const failed = [...answers]
      .filter(([path, { response, body }]) => !passes((name) => response.headers.get(name) ?? '', path, body))
      .map(([path]) => path);
    assert.ok(answers.size > 50);
    assert.deepEqual(failed, []);
  }
  const policyOf = (header: (name: string) => string): string => header('content-security-policy');

  test('10019, 10021: each answer has its type, and no browser guesses another', () => {
    each((header, _path, body) => body === '' || /^[\w+-]+\/[\w.+-]+/.test(header('content-type')));
    each((header) => header('x-content-type-options') === 'nosniff');
  });
  test('10015, 10049: no cache keeps what is for its caller alone; what never changes may be kept', () => {
    each((header, path) =>
      path.startsWith('/assets/') && path !== '/assets/absent'
        ? header('cache-control').includes('immutable')
        : header('cache-control') === 'no-store',
    );
  });
  test('10020, 10038, 10055: there is a policy everywhere: nothing inline, from elsewhere, or in a frame', () => {
    each((header) => policyOf(header).includes("default-src 'none'"));
    each((header) => policyOf(header).includes("frame-ancestors 'none'"));
    each((header) => header('x-frame-options') === 'DENY');
    each((header) => !/unsafe|https?:|\*/.test(policyOf(header)));
    each((header, path) => !isPage(path) || policyOf(header).includes("require-trusted-types-for 'script'"));
  });
  test('90004: the page is alone in its process', () => {
    each((header) => header('cross-origin-opener-policy') === 'same-origin');
    each((header) => header('cross-origin-resource-policy') === 'same-origin');
    each((header) => header('cross-origin-embedder-policy') === 'require-corp');
  });
  test('10035, 10063: later visits are by TLS; what the page needs of the browser it says', () => {
    each((header) => /max-age=\d{8}/.test(header('strict-transport-security')));
    each((header, path) => !isPage(path) || header('permissions-policy').includes('camera=()'));
  });
  test('10098: pages of others read nothing', () => {
    each((header) => header('access-control-allow-origin') === '' && header('timing-allow-origin') === '');
  });
  test('10036, 10037, 10056: no answer tells of what it is made', () => {
    each((header) =>
      ['server', 'x-powered-by', 'x-debug-token', 'x-sourcemap', 'sourcemap'].every(
        (name) => header(name) === '',
      ),
    );
  });
  test('10023, 90022: no error tells of a stack, a file of ours, or the store', () => {
    each(
      (_header, path, body) =>
        path.startsWith('/assets/') || !/ {4}at |node_modules|\.ts:\d|SQLITE|select .* from/.test(body),
    );
  });
  test('10024, 10105: no secret is in an address, and no password is asked for by the browser itself', () => {
    each((header) => header('www-authenticate') === '' || !/basic/i.test(header('www-authenticate')));
    assert.ok(!ROUTES.some(({ path }) => /[?&](token|password|secret)=/.test(path)));
  });
  test('10017, 10027, 10040, 10110: scripts are ours, without maps, and make no code of texts', () => {
    each((_header, path, body) => !isPage(path) || !/(src|href)="(https?:)?\/\//.test(body));
    each(
      (_header, path, body) =>
        !path.endsWith('.js') || !/\beval\(|new Function\(|sourceMappingURL/.test(body),
    );
  });
  test('10010, 10011, 10054, 90033: a cookie is for this host, over TLS or from this machine, and for no script', async () => {
    const user = { name: 'ada', role: 'viewer', scopes: [] };
    const { token } = await controller.api<Invitation>('/users', user);
    const response = await fetch(`${controller.url}/api/v1/invitation/accept`, {
      method: 'POST',
      headers: JSON_BODY,
      body: JSON.stringify({ token, password: PASSWORD }),
    });
    const cookies = response.headers.getSetCookie();
    assert.equal(cookies.length, 1, await response.text());
    assert.match(cookies[0]!, /^__Host-[^;]+; .*Path=\//i);
    for (const flag of ['HttpOnly', 'Secure', 'SameSite=Strict'])
      assert.match(cookies[0]!, new RegExp(`; ${flag}(;|$)`, 'i'));
    assert.ok(!/domain=/i.test(cookies[0]!));
  });

  const status = async (options: { path: string; method?: string; headers?: Record<string, string> }) => {
    const { port } = new URL(controller.url);
    const outgoing = rawRequest({ host: '127.0.0.1', port, agent: false, ...options }).end();
    const [response] = await once(outgoing, 'response');
    return { code: response.statusCode as number, body: await text(response) };
  };
  test('6, 40034, 40035: no path leads to a file that is not to be served', async () => {
    for (const path of [
      '/assets/..%2f..%2fpackage.json',
      '/assets/../package.json',
      '/assets/%2e%2e/package.json',
    ])
      assert.ok(!(await status({ path })).body.includes('"dependencies"'), path);
    for (const path of ['/.git/config', '/.env', '/package.json', '/stowage.db'])
      assert.match((await status({ path })).body, /^<!doctype html>/, path);
  });
  test('10048, 10058, 90028: methods that nobody needs do nothing', async () => {
    for (const method of ['TRACE', 'TRACK', 'CONNECTX', 'PROPFIND', 'DEBUG'])
      assert.ok((await status({ path: '/', method })).code >= 400, method);
    const { code, body } = await status({
      path: '/api/v1/users?name=eve',
      method: 'GET',
      headers: { 'x-http-method-override': 'POST' },
    });
    assert.equal(code, 401, body);
  });
  test('40003, 40012: what a caller sends comes back as no markup and in no header', async () => {
    const mark = '<script>alert(1)</script>';
    for (const path of [
      `/api/v1/${encodeURIComponent(mark)}`,
      `/api/v1/hosts?limit=${encodeURIComponent(mark)}`,
      `/x?${encodeURIComponent(mark)}`,
    ]) {
      const response = await fetch(`${controller.url}${path}`, {
        headers: { authorization: `Bearer ${controller.token}` },
      });
      const body = await response.text();
      if (/html/.test(response.headers.get('content-type') ?? '')) assert.ok(!body.includes(mark), path);
    }
    const split = await fetch(`${controller.url}/api/v1/x%0d%0aset-cookie:%20a=b`);
    assert.deepEqual(split.headers.getSetCookie(), []);
    assert.ok(
      !(await status({ path: '/', headers: { host: 'evil.example' } })).body.includes('evil.example'),
    );
  });
  test('a path that is badly encoded is refused as everything else is', async () => {
    for (const path of ['/api/v1/hosts/%zz', '/volumes/%E0%A4%A/p/v']) {
      const response = await fetch(`${controller.url}${path}`);
      assert.equal(response.status, 400);
      assert.equal(response.headers.get('content-type'), 'application/problem+json; charset=utf-8');
      assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
      assert.equal(((await response.json()) as { code: string }).code, 'invalid-argument');
    }
    const odd = await controller.fetch('/hosts/local/pools', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ job: { toString: 1 }, name: 'q' }),
    });
    assert.equal(odd.status, 400);
  });
  test('readers of events who go give back their places', async () => {
    // More than one token may have at a time.
    for (let count = 0; count < 250; count++) {
      const answer = await controller.fetch('/events');
      assert.equal(answer.status, 200, `reader ${count}`);
      await answer.body?.cancel();
    }
  });

  test('what is no part of the API is refused before its body is read', async () => {
    const socket = connect(Number(new URL(controller.url).port), '127.0.0.1');
    socket.write(`POST /nope HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n${'a'.repeat(1000)}`);
    // It is closed though the rest never comes.
    const answer = await text(socket);
    assert.match(answer, /^HTTP\/1.1 404 [\s\S]*connection: close[\s\S]*"code":"route-not-found"/i);
  });

  test('requests that mean two things, or are too large, are refused', async () => {
    const say = async (words: string): Promise<string> => {
      const socket = connect(Number(new URL(controller.url).port), '127.0.0.1');
      socket.end(words);
      return text(socket).catch(() => '');
    };
    const smuggled =
      'POST /api/v1/hosts HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
    assert.match(await say(smuggled), /^HTTP\/1.1 400 [\s\S]*"code":"invalid-argument"/);
    assert.match(await say('GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n'), /^HTTP\/1.1 400 /);
    assert.match(
      await say(`GET / HTTP/1.1\r\nHost: a\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`),
      /^HTTP\/1.1 431 [\s\S]*problem\+json[\s\S]*"code":"too-large"/,
    );
  });
});
