import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Secret, TOTP } from 'otpauth';
import type { OpenInvitation, Session } from '../../shared/protocol/api.ts';
import { TestController } from '../support/controller.ts';
import { cookieOf, JSON_BODY, PASSWORD, SAME_ORIGIN, signedIn } from '../support/people.ts';
import { scratch } from '../support/scratch.ts';

const room = scratch();
let controller: TestController;
before(async () => {
  controller = await TestController.start(join(room.path, 'data'), []);
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await room[Symbol.asyncDispose]();
});

const ask = (
  method: string,
  path: string,
  json?: unknown,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(`${controller.url}${path}`, {
    method,
    headers: { ...(json === undefined ? SAME_ORIGIN : JSON_BODY), ...headers },
    body: json === undefined ? undefined : JSON.stringify(json),
  });
const codeOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { code: string }).code;
const begin = (name: string, password: string, more: object = {}): Promise<Response> =>
  ask('POST', '/api/v1/session', { name, password, ...more });

describe('signing in', () => {
  test('an invitation makes a user once, whoever tries at the same time', async () => {
    const { token } = await controller.api<{ token: string }>('/users', {
      name: 'ada',
      role: 'admin',
      scopes: [],
    });
    const accept = (given: object) => ask('POST', '/api/v1/invitation/accept', { token, ...given });
    assert.equal(await codeOf(await accept({ password: 'short' })), 'invalid-argument');
    assert.equal(await codeOf(await accept({ password: 'aaaaaaaaaaaaaaaa' })), 'invalid-argument');
    const both = await Promise.all([accept({ password: PASSWORD }), accept({ password: PASSWORD })]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [204, 403]);
    assert.equal(await codeOf(await ask('POST', '/api/v1/invitation', { token })), 'invitation-refused');
  });

  test('open invitations are listed without their secrets, and withdrawn', async () => {
    const invite = (name: string) => controller.cliOk('user', 'invite', name, '--role', 'viewer');
    const listed = () => controller.api<OpenInvitation[]>('/open-invitations');
    const link = await invite('late');
    await controller.cliOk('user', 'reset', 'ada');
    const open = await listed();
    assert.deepEqual(
      open.map(({ expiresAt, ...each }) => ({ ...each, isLater: expiresAt > Date.now() })),
      [
        { name: 'ada', role: 'admin', scopes: [], isReset: true, isLater: true },
        { name: 'late', role: 'viewer', scopes: [], isReset: false, isLater: true },
      ],
    );
    assert.match(await controller.cliOk('user', 'invitations'), /ada +a new password.*late +a new user/s);
    for (const name of ['late', 'ada']) await controller.cliOk('user', 'withdraw', name);
    await controller.cliRefused('invitation-not-found', 'user', 'withdraw', 'late');
    await controller.cliRefused('invitation-not-found', 'user', 'withdraw', 'nobody');
    assert.deepEqual(await listed(), []);
    const token = link.split('#')[1]!.trim();
    const used = await ask('POST', '/api/v1/invitation/accept', { token, password: PASSWORD });
    assert.equal(await codeOf(used), 'invitation-refused');
    // Whom it was for is as before.
    assert.equal((await begin('ada', PASSWORD)).status, 204);
  });

  test('the cookie is for the page alone; each sign-in has a new one, whatever was sent', async () => {
    const planted = '__Host-stowage=planted-by-somebody-else';
    const response = await ask(
      'POST',
      '/api/v1/session',
      { name: 'ada', password: PASSWORD },
      { cookie: planted },
    );
    const [text = ''] = response.headers.getSetCookie();
    for (const part of ['__Host-stowage=', 'Path=/', 'HttpOnly', 'Secure', 'SameSite=Strict'])
      assert.ok(text.includes(part), part);
    assert.ok(!/Domain/i.test(text));
    assert.notEqual(cookieOf(response), planted);
    assert.notEqual(cookieOf(response), cookieOf(await begin('ada', PASSWORD)));
  });

  test('what is wrong is not told, and takes as long for a name that nobody has', async () => {
    for (const [name, password] of [
      ['ada', 'wrong wrong wrong'],
      ['nobody-of-this-name', PASSWORD],
    ] as const) {
      const response = await begin(name, password);
      assert.equal(response.status, 401);
      assert.equal(
        ((await response.json()) as { detail: string }).detail,
        'the name, the password or the code is wrong',
      );
    }
    assert.equal(await codeOf(await begin('../x', 'x')), 'invalid-argument');
    assert.equal((await begin('ada', 'x'.repeat(2000))).status, 400);
  });

  test('a change needs the page of this controller', async () => {
    const cookie = cookieOf(await begin('ada', PASSWORD));
    const token = { name: 'made-by-another-site', role: 'admin' };
    for (const headers of [
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'none' },
    ])
      assert.equal(
        await codeOf(await ask('POST', '/api/v1/tokens', token, { cookie, ...headers })),
        'cross-site',
      );
    const old = (origin: string | undefined) =>
      fetch(`${controller.url}/api/v1/tokens`, {
        method: 'POST',
        headers: { cookie, 'content-type': 'application/json', ...(origin && { origin }) },
        body: JSON.stringify(token),
      });
    assert.equal(await codeOf(await old('https://evil.example')), 'cross-site');
    assert.equal(await codeOf(await old(undefined)), 'cross-site');
    assert.equal(
      await codeOf(
        await begin('ada', PASSWORD).then(() =>
          fetch(`${controller.url}/api/v1/session`, {
            method: 'POST',
            headers: { 'sec-fetch-site': 'cross-site', 'content-type': 'application/json' },
            body: JSON.stringify({ name: 'ada', password: PASSWORD }),
          }),
        ),
      ),
      'cross-site',
      'nor does another site sign somebody in',
    );
    assert.ok(!(await controller.cliOk('token', 'list')).includes('made-by-another-site'));
    assert.equal((await old(controller.url)).status, 201, 'an old browser says where it comes from');
  });

  test('sessions are listed, and end: one, all but one, by signing out, with their user', async () => {
    const [first, second, third] = [
      cookieOf(await begin('ada', PASSWORD)),
      cookieOf(await begin('ada', PASSWORD)),
      cookieOf(await begin('ada', PASSWORD)),
    ];
    const sessions = async (cookie: string): Promise<Session[]> =>
      (await (await ask('GET', '/api/v1/account/sessions', undefined, { cookie })).json()) as Session[];
    const all = await sessions(first);
    assert.equal(all.filter(({ isCurrent }) => isCurrent).length, 1);
    const [seconds] = (await sessions(second)).filter(({ isCurrent }) => isCurrent);
    assert.equal(
      (await ask('DELETE', `/api/v1/account/sessions/${seconds!.id}`, undefined, { cookie: first })).status,
      204,
    );
    assert.equal((await ask('GET', '/api/v1/fleet', undefined, { cookie: second })).status, 401);
    const bobs = await signedIn(controller, 'bob', 'viewer');
    const [bob] = await sessions(bobs);
    assert.equal(
      await codeOf(await ask('DELETE', `/api/v1/account/sessions/${bob!.id}`, undefined, { cookie: first })),
      'session-not-found',
      'of nobody else',
    );

    const events = await fetch(`${controller.url}/api/v1/events`, { headers: { cookie: third } });
    const changed = await ask(
      'PUT',
      '/api/v1/account/password',
      { before: PASSWORD, password: `${PASSWORD}!` },
      { cookie: first },
    );
    assert.equal(changed.status, 204);
    await assert.rejects(events.text(), 'what another session reads ends with it');
    assert.equal((await ask('GET', '/api/v1/fleet', undefined, { cookie: third })).status, 401);
    assert.equal((await ask('GET', '/api/v1/fleet', undefined, { cookie: first })).status, 200);
    await ask(
      'PUT',
      '/api/v1/account/password',
      { before: `${PASSWORD}!`, password: PASSWORD },
      { cookie: first },
    );
    assert.equal((await ask('DELETE', '/api/v1/session', undefined, { cookie: first })).status, 204);
    assert.equal((await ask('GET', '/api/v1/fleet', undefined, { cookie: first })).status, 401);
    await controller.cliOk('user', 'remove', 'bob', '--yes');
    assert.equal((await ask('GET', '/api/v1/fleet', undefined, { cookie: bobs })).status, 401);
  });

  test('other rights are other rights at once', async () => {
    const cookie = await signedIn(controller, 'carol', 'operator');
    const vera = { name: 'v', capacityBytes: 1 << 20 };
    assert.equal(
      (await ask('POST', '/api/v1/hosts/local/pools/default/volumes', vera, { cookie })).status,
      201,
    );
    await controller.cliOk('user', 'set', 'carol', '--role', 'viewer', '--scope', 'elsewhere');
    assert.equal(
      (await ask('POST', '/api/v1/hosts/local/pools/default/volumes', { ...vera, name: 'w' }, { cookie }))
        .status,
      403,
    );
    assert.equal((await ask('GET', '/api/v1/hosts/local', undefined, { cookie })).status, 403);
  });

  test('a second factor is asked for, its code taken once; a new password by an administrator takes it away', async () => {
    const cookie = await signedIn(controller, 'dora', 'viewer');
    const { secret } = (await (
      await ask('POST', '/api/v1/account/second-factor', {}, { cookie })
    ).json()) as { secret: string };
    const totp = new TOTP({ secret: Secret.fromBase32(secret), period: 30 });
    const set = (code: string) =>
      ask('PUT', '/api/v1/account/second-factor', { password: PASSWORD, secret, code }, { cookie });
    assert.equal(await codeOf(await set('000000')), 'sign-in-refused');
    const code = totp.generate();
    assert.equal((await set(code)).status, 204);
    assert.equal(await codeOf(await begin('dora', PASSWORD)), 'second-factor-missing');
    assert.equal(
      await codeOf(await begin('dora', 'wrong wrong wrong')),
      'sign-in-refused',
      'not told without the password',
    );
    assert.equal(
      await codeOf(await begin('dora', PASSWORD, { code })),
      'sign-in-refused',
      'a code that was used',
    );
    const next = totp.generate({ timestamp: Date.now() + 30_000 });
    const twice = await Promise.all([
      begin('dora', PASSWORD, { code: next }),
      begin('dora', PASSWORD, { code: next }),
    ]);
    assert.deepEqual(twice.map(({ status }) => status).sort(), [204, 401]);
    const store = readFileSync(join(controller.directory, 'stowage.db'));
    assert.ok(!store.includes(secret), 'the store alone makes no codes');
    const link = (await controller.cliOk('user', 'reset', 'dora')).trim();
    const token = new URL(link).hash.slice(1);
    assert.equal((await ask('POST', '/api/v1/invitation/accept', { token, password: PASSWORD })).status, 204);
    assert.equal((await begin('dora', PASSWORD)).status, 204);
  });

  test('a reset has the last word, whatever an intruder with the old password sends meanwhile', async () => {
    const cookie = await signedIn(controller, 'erin', 'viewer');
    let isOver = false;
    const intrude = async (): Promise<void> => {
      while (!isOver)
        await ask('PUT', '/api/v1/account/password', { before: PASSWORD, password: PASSWORD }, { cookie });
    };
    const intruders = [intrude(), intrude()];
    const link = (await controller.cliOk('user', 'reset', 'erin')).trim();
    const token = new URL(link).hash.slice(1);
    const fresh = 'a fresh password of erin’s own';
    assert.equal(
      (await ask('POST', '/api/v1/invitation/accept', { token, password: fresh.replace('erin', 'her') }))
        .status,
      204,
    );
    isOver = true;
    await Promise.all(intruders);
    assert.equal((await begin('erin', fresh.replace('erin', 'her'))).status, 204);
    assert.equal((await begin('erin', PASSWORD)).status, 401);
  });

  test('the link of the first administrator is nobody’s once there is a user', async () => {
    const token = new URL(controller.link).hash.slice(1);
    const late = await ask('POST', '/api/v1/invitation/accept', { token, name: 'late', password: PASSWORD });
    assert.equal(await codeOf(late), 'invitation-refused');
  });

  test('whoever does not end what they send before they have signed in is cut off', async () => {
    const { hostname, port } = new URL(controller.url);
    const socket = connect({ host: hostname, port: Number(port) });
    const cut = once(socket, 'close');
    socket.on('error', () => undefined);
    socket.write(
      'POST /api/v1/session HTTP/1.1\r\nhost: x\r\nsec-fetch-site: same-origin\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{',
    );
    await cut;
    const long = await ask('POST', '/api/v1/session', { name: 'ada', password: 'x'.repeat(20_000) });
    assert.equal(long.status, 413);
  });

  test('a user and a token never have the same name', async () => {
    await controller.cliRefused('token-exists', 'token', 'create', 'ada', '--role', 'viewer');
    await controller.cliRefused('user-exists', 'user', 'invite', 'admin', '--role', 'viewer');
    await controller.cliRefused('user-exists', 'user', 'invite', 'ada', '--role', 'viewer');
  });

  test('whoever tries passwords is slowed down, by account and by address, and is on record', async () => {
    const codes: string[] = [];
    for (let index = 0; index < 12; index++)
      codes.push(await codeOf(await begin('carol', `wrong password ${index}`)));
    assert.ok(codes.includes('rate-limited'), codes.join(' '));
    // Also for the right one: else the tries would tell it.
    assert.equal(await codeOf(await begin('carol', PASSWORD)), 'rate-limited');
    const trail = await controller.cliOk('audit', 'list', '--limit', '200');
    assert.match(trail, /nobody.*session\.begin\s+user carol\s+refused/);
    assert.ok(!trail.includes('wrong password'), 'what was typed is not');
  });

  test('the page is served with a policy that lets nothing else in', async () => {
    for (const path of ['/', '/volumes', '/volumes/h/p/%3Cscript%3Ealert(1)%3C%2Fscript%3E']) {
      const response = await fetch(`${controller.url}${path}`);
      const policy = response.headers.get('content-security-policy')!;
      assert.match(policy, /default-src 'none'; script-src 'self';/);
      assert.match(policy, /frame-ancestors 'none'/);
      assert.ok(!policy.includes('unsafe'));
      assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
      const text = await response.text();
      assert.ok(!text.includes('alert(1)'), 'nothing of an address is in the page');
      assert.ok(!/<script(?![^>]*src="\/assets\/)/.test(text), 'no script in it');
    }
    const text = await (await fetch(controller.url)).text();
    const [, script = ''] = /src="(\/assets\/[^"]+)"/.exec(text)!;
    const [, style = ''] = /rel="stylesheet" href="([^"]+)"/.exec(text)!;
    let bytes = 0;
    for (const asset of [script, style]) {
      const response = await fetch(`${controller.url}${asset}`, { headers: { 'accept-encoding': 'br' } });
      assert.match(response.headers.get('cache-control')!, /immutable/);
      bytes += Number(response.headers.get('content-length'));
    }
    assert.ok(bytes > 0 && bytes <= 250 * 1024, `${bytes} bytes of script and style`);
    assert.equal((await fetch(`${controller.url}/assets/..%2f..%2fpackage.json`)).status, 404);
  });
});

describe('numbers', () => {
  test('are what Prometheus reads, for those who may, of what they may see; the rules are sound', async () => {
    assert.equal((await fetch(`${controller.url}/metrics`)).status, 401);
    const read = async (token: string): Promise<string> => {
      const response = await fetch(`${controller.url}/metrics`, {
        headers: { authorization: `Bearer ${token}` },
      });
      assert.match(response.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
      return response.text();
    };
    const all = await read(controller.token);
    assert.match(all, /^stowage_hosts\{state="reachable"\} 1$/m);
    assert.match(all, /^stowage_pool_up\{host="local",pool="default",type="dir"\} 1$/m);
    assert.match(all, /^stowage_trail_last_record [1-9]/m);
    assert.match(all, /^stowage_volume_bytes_total\{by="job"\} \d/m);
    assert.match(all, /^stowage_requests_total\{action="user\.invite",status="201"\} \d+$/m);
    assert.match(all, /^process_resident_memory_bytes/m);
    const check = spawnSync('promtool', ['check', 'metrics'], { input: all, encoding: 'utf8' });
    assert.deepEqual([check.status, check.stdout], [0, ''], check.stderr);
    const rules = spawnSync('promtool', ['check', 'rules', 'controller/metrics/alerts.yml'], {
      encoding: 'utf8',
    });
    assert.equal(rules.status, 0, rules.stderr);
    const made = await controller.cli(
      ...['token', 'create', 'sees-nothing', '--role', 'viewer', '--scope', 'elsewhere', '--scope', '@any'],
    );
    assert.equal(made.stderr, "warning: there is no host 'elsewhere' now\n");
    const elsewhere = made.stdout.trim();
    const none = await read(elsewhere);
    assert.ok(!none.includes('host="local"') && !none.includes('process_'), none);
    // What the board and the rules ask for is there.
    const asked = `${readFileSync('controller/metrics/dashboard.json', 'utf8')}${readFileSync('controller/metrics/alerts.yml', 'utf8')}`;
    for (const [name] of asked.matchAll(/stowage_[a-z_]+/g))
      assert.ok(all.includes(`# TYPE ${name.replace(/_bucket$/, '')} `), name);
  });

  test('whether it lives, and whether it can work, is told to everybody', async () => {
    for (const path of ['/healthz', '/readyz'])
      assert.deepEqual(await (await fetch(`${controller.url}${path}`)).json(), { status: 'ok' });
  });
});
