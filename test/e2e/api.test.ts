import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import type { z } from 'zod';
import { ACTIONS } from '../../controller/actions/index.ts';
import { ROUTES } from '../../controller/doors/rest/routes.ts';
import {
  type AuditRecord,
  type FleetEvent,
  type FleetTotals,
  fleetEventSchema,
} from '../../shared/protocol/api.ts';
import { ROLES, type Role } from '../../shared/protocol/rights.ts';
import { TestController, until } from '../support/controller.ts';
import { signedIn } from '../support/people.ts';
import { scratch } from '../support/scratch.ts';

const room = scratch();
let controller: TestController;
const tokens = {} as Record<string, string>;
const cookies = {} as Record<Role, string>;

before(async () => {
  controller = await TestController.start(join(room.path, 'data'), []);
  for (const role of ROLES)
    tokens[role] = (await controller.cliOk('token', 'create', `a-${role}`, '--role', role)).trim();
  for (const role of ROLES) cookies[role] = await signedIn(controller, `person-${role}`, role);
  const scoped = [
    'token',
    'create',
    'scoped',
    '--role',
    'operator',
    '--scope',
    'local/mine',
    '--scope',
    'other',
  ];
  tokens.scoped = (await controller.cliOk(...scoped)).trim();
  await controller.cliOk(
    'pool',
    'create',
    'local/mine',
    '--type',
    'dir',
    '--target',
    join(room.path, 'mine'),
  );
  for (const pool of ['mine', 'default'])
    await controller.cliOk('vol', 'create', `local/${pool}/v`, '--capacity', '1M');
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await room[Symbol.asyncDispose]();
});

/** A path with its parameters filled in. */
const filled = (path: string, values: Record<string, string>): string =>
  path.replaceAll(/:(\w+)/g, (_, name: string) => values[name] ?? 'x');

const problemOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { code: string }).code;

describe('every route', () => {
  test('does an action, and every action that there is can be reached', () => {
    const reached = new Set(ROUTES.flatMap(({ action, xml }) => (xml ? [action, xml] : [action])));
    // The bytes of volumes have routes of their own.
    for (const name of ['volume.download', 'volume.upload-bytes', 'upload.show']) reached.add(name);
    assert.deepEqual([...reached].sort(), [...ACTIONS.keys()].sort());
  });

  for (const route of ROUTES) {
    const action = ACTIONS.get(route.action)!;
    if (route.isPublic) continue;
    test(`${route.method} ${route.path} is for ${action.role}s and above, asked before a body is read`, async () => {
      const path = filled(route.path, { host: 'nowhere', job: '1' });
      const ask = (right: Record<string, string> = {}): Promise<Response> =>
        fetch(`${controller.url}${path}`, {
          method: route.method,
          headers: {
            ...right,
            ...(['POST', 'PUT'].includes(route.method) && { 'content-type': 'application/json' }),
          },
          // No JSON at all: who may not do this must not get so far.
          body: ['POST', 'PUT'].includes(route.method) ? '{' : undefined,
        });
      // Whoever asks so often without a token is slowed.
      assert.ok([401, 429].includes((await ask()).status));
      for (const role of ROLES) {
        const mayDoIt = ROLES.indexOf(role) >= ROLES.indexOf(action.role);
        const cookie = { cookie: cookies[role as Role]!, 'sec-fetch-site': 'same-origin' };
        // A program and a person of a role may do the same.
        for (const right of [{ authorization: `Bearer ${tokens[role as Role]}` }, cookie]) {
          // What ends the session that asks is not for this one.
          if (action.name.startsWith('account.')) continue;
          const response = await ask(right);
          if (mayDoIt) assert.notEqual(response.status, 403, `${role}: ${await response.text()}`);
          else assert.equal(await problemOf(response), 'forbidden', role);
        }
        if (route.method === 'GET') continue;
        const elsewhere = await ask({ ...cookie, 'sec-fetch-site': 'cross-site' });
        assert.equal(await problemOf(elsewhere), 'cross-site', 'a page of another site changes nothing');
      }
    });
  }
});

describe('what is answered', () => {
  const asked: [string, string][] = [
    ['fleet.show', '/fleet'],
    ['host.list', '/hosts'],
    ['host.show', '/hosts/local'],
    ['host.doctor', '/hosts/local/doctor'],
    ['agent.list', '/agent'],
    ['pool.list', '/pools'],
    ['pool.show', '/hosts/local/pools/mine'],
    ['volume.list', '/volumes?limit=1'],
    ['volume.show', '/hosts/local/pools/mine/volumes/v'],
    ['volume.layout', '/hosts/local/pools/mine/volumes/v/layout'],
    ['domain.list', '/domains'],
    ['job.list', '/jobs'],
    ['audit.list', '/audit?limit=5'],
    ['audit.verify', '/audit/verify'],
    ['token.list', '/tokens'],
  ];
  for (const [name, path] of asked)
    test(`${name} is what its schema says, and nothing beside it`, async () => {
      const schema = ACTIONS.get(name)!.answer as z.ZodType;
      const answer = await controller.api<unknown>(path);
      assert.deepEqual(schema.parse(answer), answer);
    });

  test('a thing has one shape: as it is made, shown, listed and told of', async () => {
    const events: FleetEvent[] = [];
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${controller.token}` },
    });
    socket.on('message', (data) => events.push(fleetEventSchema.parse(JSON.parse(String(data)))));
    await new Promise((open) => socket.once('open', open));
    const path = '/hosts/local/pools/mine/volumes';
    const made = await controller.api<{ name: string }>(path, { name: 'one', capacityBytes: 4096 });
    const { heldBy, users, clones, ...shown } = await controller.api<Record<string, unknown>>(`${path}/one`);
    const [listed] = await controller.api<unknown[]>('/volumes?host=local&pool=mine&name=one');
    assert.deepEqual([heldBy, users, clones], [[], [], []]);
    const told = await until('it is told of', () =>
      events.find((event) => event.type === 'volume' && event.volume === 'one'),
    );
    assert.deepEqual([shown, listed, 'now' in told && told.now], [made, made, made]);
    const job = await controller.api<{ id: number }>(`${path}/one/clone`, { name: 'two' });
    await controller.ended(job.id);
    const last = await until('its end is told of', () =>
      events.find((event) => event.type === 'job' && event.now?.state === 'done'),
    );
    assert.deepEqual('now' in last && last.now, await controller.job(job.id));
    socket.terminate();
  });

  test('input that is none is told in words, and nothing is done', async () => {
    const path = '/hosts/local/pools/mine/volumes';
    const cases: [string, string, unknown, RegExp][] = [
      ['POST', path, { name: 'x' }, /capacityBytes: is missing/],
      ['POST', path, { name: 'x', capacityBytes: 'much' }, /capacityBytes: must be a number/],
      ['POST', path, { name: 'x', capacityBytes: 1.5 }, /capacityBytes: must be a whole number/],
      [
        'POST',
        path,
        { name: 'x', capacityBytes: 1, format: 'vdi' },
        /format: must be raw, qcow2, ploop, luks or vmdk/,
      ],
      ['POST', path, { name: '../x', capacityBytes: 1 }, /name: the name is refused/],
      ['GET', '/volumes?limit=many', undefined, /limit: must be a number/],
      ['GET', '/volumes?id=7', undefined, /id: must be a UUID/],
      ['DELETE', `${path}/v?allowUsed=perhaps`, undefined, /allowUsed: must be true or false/],
      ['POST', '/tokens', { name: 't', role: 'king' }, /role: must be viewer, operator or admin/],
      [
        'POST',
        '/tokens',
        { name: 't', role: 'viewer', scopes: ['a/b/c'] },
        /scopes\.0: a scope is HOST, HOST\/POOL or @LABEL/,
      ],
    ];
    const last = async (): Promise<number> =>
      (await controller.api<AuditRecord[]>('/audit?limit=3'))
        .filter(({ action }) => action !== 'audit.list')
        .at(-1)?.seq ?? 0;
    const before = await last();
    for (const [method, url, json, words] of cases) {
      const response = await controller.fetch(url, {
        method,
        ...(json !== undefined && {
          body: JSON.stringify(json),
          headers: { 'content-type': 'application/json' },
        }),
      });
      const { detail, code } = (await response.json()) as { detail: string; code: string };
      assert.equal(code, 'invalid-argument', detail);
      assert.match(detail, words);
      assert.doesNotMatch(detail, /Invalid|expected|received|NaN/);
    }
    assert.ok((await last()) <= before + 1);
  });
});

describe('whose rights end somewhere', () => {
  const as = (path: string, init: RequestInit = {}) =>
    controller.fetch(path, { ...init, token: tokens.scoped });
  const refused = async (path: string, init?: RequestInit): Promise<void> => {
    const response = await as(path, init);
    assert.equal(await problemOf(response), 'forbidden', `${init?.method ?? 'GET'} ${path}`);
  };
  const post = (json: unknown): RequestInit => ({
    method: 'POST',
    body: JSON.stringify(json),
    headers: { 'content-type': 'application/json' },
  });

  test('sees only what is there', async () => {
    const list = async <T>(path: string): Promise<T[]> => (await (await as(path)).json()) as T[];
    assert.deepEqual(
      (await list<{ name: string }>('/hosts')).map(({ name }) => name),
      ['local'],
    );
    assert.deepEqual(
      (await list<{ name: string }>('/pools')).map(({ name }) => name),
      ['mine'],
    );
    const volumes = await list<{ pool: string }>('/volumes');
    assert.ok(volumes.length > 0 && volumes.every(({ pool }) => pool === 'mine'));
    assert.equal((await as('/hosts/local/pools/mine/volumes/v')).status, 200);
    await refused('/hosts/local/pools/default/volumes/v');
    await refused('/volumes?host=local&pool=default');
    await refused('/tokens');
    assert.deepEqual(await list('/domains'), []);
    const { pools } = (await (await as('/fleet')).json()) as FleetTotals;
    assert.deepEqual(pools.byState, { running: 1 });
    assert.equal(pools.volumeCount, volumes.length);
    const records = await list<AuditRecord>('/audit?limit=1000');
    assert.ok(records.length > 0);
    for (const { target } of records) assert.match(target, /^(local\/mine|other)(\/|$)/);
    // Jobs elsewhere are not there.
    const { id } = await controller.api<{ id: number }>('/hosts/local/pools/default/volumes/v/clone', {
      name: 'w',
    });
    await controller.ended(id);
    await refused(`/jobs/${id}`);
    await refused(`/jobs/${id}/retry`, post({}));
    assert.ok((await list<{ id: number }>('/jobs')).every((job) => job.id !== id));
  });

  test('a text that no store can hold is refused', async () => {
    for (const path of [
      '/volumes?search=a%00b',
      '/volumes?user=%00',
      '/audit?actor=%00',
      '/domains?after=h/%2500/x/',
    ])
      assert.equal(await problemOf(await controller.fetch(path)), 'invalid-argument', path);
  });

  test('of a label: as long as a host has it, and nowhere where none has', async () => {
    const token = (
      await controller.cliOk('token', 'create', 'of-prod', '--role', 'operator', '--scope', '@prod')
    ).trim();
    const sees = async (): Promise<[unknown, unknown, number]> => {
      const list = async (path: string) => (await (await controller.fetch(path, { token })).json()) as [];
      const records = await list('/audit?limit=1000');
      return [(await list('/hosts')).length, (await list('/volumes')).length > 0, records.length];
    };
    assert.deepEqual(await sees(), [0, false, 0]);
    assert.equal((await controller.fetch('/hosts/local/pools/mine', { token })).status, 403);
    assert.equal(
      await controller.cliOk('host', 'label', 'local', 'prod', 'rack=3'),
      'host local: prod rack=3\n',
    );
    const [hosts, volumes, records] = await sees();
    assert.deepEqual([hosts, volumes, records > 0], [1, true, true]);
    // A stream that is open follows the label.
    const heard: string[] = [];
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${token}` },
    });
    socket.on('message', (text) => {
      const event = JSON.parse(String(text)) as FleetEvent;
      if (event.type === 'volume') heard.push(event.volume);
    });
    await new Promise((open) => socket.once('open', open));
    const make = (name: string) =>
      controller.cliOk('vol', 'create', `local/default/${name}`, '--capacity', '1M');
    await make('heard');
    await until('the event', async () => heard.includes('heard'));
    assert.equal((await controller.fetch('/hosts/local/pools/mine', { token })).status, 200);
    assert.equal(
      (await controller.fetch('/hosts/local/labels', { ...post({ add: ['x'] }), token })).status,
      403,
    );
    assert.equal(await controller.cliOk('host', 'list', '--label', 'rack=3', '-q'), 'local\n');
    assert.equal(await controller.cliOk('host', 'label', 'local', 'prod-', 'rack=4'), 'host local: rack=4\n');
    assert.equal(await controller.cliOk('host', 'list', '--label', 'rack=3', '-q'), '');
    assert.deepEqual(await sees(), [0, false, 0]);
    await make('secret');
    await controller.cliOk('host', 'label', 'local', 'prod');
    await make('heard-again');
    await until('the event', async () => heard.includes('heard-again'));
    assert.ok(!heard.includes('secret'));
    socket.terminate();
    await controller.cliOk('host', 'label', 'local', 'prod-');
    await controller.cliRefused('invalid-argument', 'host', 'label', 'local', '../x');
    await controller.cliRefused('invalid-argument', 'host', 'label', 'local', 'a', 'a-');
    assert.equal(
      await controller.cliOk('host', 'label', 'local', 'rack=5', 'rack=6'),
      'host local: rack=6\n',
    );
    await controller.cliRefused('invalid-argument', 'host', 'token', '@prod');
  });

  test('an administrator of one pool chooses nothing of its host', async () => {
    const token = (
      await controller.cliOk('token', 'create', 'of-a-pool', '--role', 'admin', '--scope', 'local/mine')
    ).trim();
    const pool = '/hosts/local/pools/mine';
    const json = { 'content-type': 'application/json' };
    const definition = { ...(await controller.api<object>(pool)), target: { path: '/etc' } };
    for (const [path, init] of [
      [pool, { method: 'PUT', body: JSON.stringify(definition), headers: json }],
      [`${pool}/build`, { method: 'POST', body: '{"overwrite":true}', headers: json }],
      [pool, { method: 'DELETE' }],
      ['/hosts/local/pools', post({ name: 'mine2', type: 'dir', target: { path: '/srv/x' } })],
      ['/hosts/local/domains/web', {}],
      ['/hosts/local', { method: 'DELETE' }],
      ['/tokens', post({ name: 'more', role: 'admin' })],
      ['/audit/export', {}],
    ] as [string, RequestInit][])
      assert.equal(await problemOf(await controller.fetch(path, { ...init, token })), 'forbidden', path);
    assert.equal((await controller.fetch(pool, { token })).status, 200);
  });

  test('does something only there, at both ends', async () => {
    const mine = '/hosts/local/pools/mine/volumes/v';
    await refused('/hosts/local/pools/default/volumes/v', { method: 'DELETE' });
    await refused(`${mine}/migrate`, post({ target: 'local/default/stolen' }));
    await refused('/hosts/local/pools/default/volumes/v/migrate', post({ target: 'local/mine/stolen' }));
    await refused('/hosts/local/pools/default/stop', { method: 'POST' });
    assert.equal((await as(`${mine}/resize`, post({ capacityBytes: 2 << 20 }))).status, 200);
    const copy = await as(`${mine}/migrate`, post({ target: 'local/mine/copy', keepSource: true }));
    assert.equal(copy.status, 202);
    await controller.ended(((await copy.json()) as { id: number }).id);
    const trail = await controller.api<AuditRecord[]>('/audit?limit=50&actor=scoped');
    assert.ok(trail.some(({ action, outcome }) => action === 'volume.migrate' && outcome === 'refused'));
  });

  test('hears only of that', async () => {
    const heard: FleetEvent[] = [];
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events`, {
      headers: { authorization: `Bearer ${tokens.scoped}` },
    });
    socket.on('message', (data) => heard.push(JSON.parse(String(data))));
    await new Promise((open) => socket.once('open', open));
    await controller.cliOk('vol', 'create', 'local/default/unheard', '--capacity', '1M');
    await controller.cliOk('vol', 'create', 'local/mine/heard', '--capacity', '1M');
    await until('it is heard', () =>
      heard.some((event) => event.type === 'volume' && event.volume === 'heard'),
    );
    assert.ok(!JSON.stringify(heard).includes('unheard'));
    socket.terminate();
  });
});

describe('events', () => {
  const follow = async (query: string, headers: Record<string, string> = {}) => {
    const stop = new AbortController();
    const response = await controller.fetch(`/events${query}`, { signal: stop.signal, headers });
    let text = '';
    void (async () => {
      for await (const piece of response.body!) text += Buffer.from(piece).toString();
    })().catch(() => undefined);
    return {
      text: () => text,
      ids: () => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id)),
      stop: () => stop.abort(),
    };
  };
  const make = (name: string) => controller.cliOk('vol', 'create', `local/mine/${name}`, '--capacity', '1M');

  test('what came between a cut and the return is told, over server-sent events and WebSocket', async () => {
    const first = await follow('');
    await make('before-the-cut');
    await until('it is told', () => first.text().includes('before-the-cut'));
    first.stop();
    const last = first.ids().at(-1)!;
    await make('in-between');
    // Over a restart too: the numbers are in the store.
    await controller.kill('SIGKILL');
    await controller.restart();
    const second = await follow(`?since=${last}`);
    await until('it is told', () => second.text().includes('"in-between"'));
    assert.ok(!second.text().includes('before-the-cut'));
    assert.ok(second.ids().every((id) => id > last));
    second.stop();
    const browser = await follow('', { 'last-event-id': String(last) });
    await until('it is told', () => browser.text().includes('"in-between"'));
    browser.stop();
    const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/events?since=${last}`, {
      headers: { authorization: `Bearer ${controller.token}` },
    });
    const heard: string[] = [];
    socket.on('message', (data) => heard.push(String(data)));
    await until('it is told', () => heard.some((text) => text.includes('"in-between"')));
    socket.terminate();
  });

  test('no request for an upgrade ends the controller', async () => {
    const { port } = new URL(controller.url);
    for (const path of ['//', '/\\\\', '*', 'http://[', '/api/v1/events', '/api/v1/events?since=x'])
      await new Promise<void>((ended) => {
        const socket = connect(Number(port), '127.0.0.1', () =>
          socket.write(
            `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
          ),
        );
        socket
          .once('data', () => socket.destroy())
          .once('close', () => ended())
          .on('error', () => undefined);
      });
    assert.equal((await controller.fetch('/health')).status, 200);
  });

  test('who asks for what is not kept any more is told so', async () => {
    const lost = await follow('?since=999999999999');
    await until('it is told', () => lost.text().includes('event: lost'));
    await make('after-that');
    await until('it goes on', () => lost.text().includes('"after-that"'));
    lost.stop();
  });
});
