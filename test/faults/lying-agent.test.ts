import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { WebSocket } from 'ws';
import { keepConnected } from '../../agent/connect.ts';
import { poolDefinitionSchema } from '../../shared/conf/pool.ts';
import { volumeSchema } from '../../shared/conf/volume.ts';
import { type AgentEvent, PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import { TestController, until } from '../support/controller.ts';
import { scratch } from '../support/scratch.ts';

const BOUND_MS = 15_000;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const info = (agentId: string) => ({
  protocol: PROTOCOL_VERSION,
  version: '0',
  bundle: '',
  agentId,
  hostname: 'liar',
  pid: 1,
  rssBytes: 1,
  refusedBackends: [],
  backends: [],
});

/** What an agent begins its events with. */
const agentLine = (agentId: string): string => `${JSON.stringify({ type: 'agent', info: info(agentId) })}\n`;

/** Says who it is as an honest agent would; what follows, and whatever else it is asked for, is `lie`. */
const honestFirst =
  (agentId: string, lie: Handler): Handler =>
  (request, response) => {
    if (request.url === '/v1/events') response.write(agentLine(agentId));
    lie(request, response);
  };

/** Sends until nobody takes it any more, and then never ends. */
const flood =
  (piece: Buffer): Handler =>
  (_request, response) => {
    const more = (): void => {
      while (!response.destroyed && response.write(piece));
    };
    response.on('drain', more);
    response.on('error', () => undefined);
    more();
  };

const LIES: Record<string, (agentId: string) => Handler> = {
  'answers nothing': () => () => undefined,
  'begins an answer and never ends it': () => (_request, response) => {
    response.write('{"type":"agent","info":');
  },
  'sends an answer without end': () => flood(Buffer.alloc(1 << 20, 0x20)),
  'answers junk': () => (_request, response) => void response.end('<html>'),
  'answers other shapes': () => (_request, response) =>
    void response.end('{"type":"agent","info":{"protocol":"4","agentId":[]}}\n'),
  'closes at once': () => (request) => void request.socket.destroy(),
  'says that it is another agent than was enrolled': () => (_request, response) =>
    void response.write(agentLine(randomUUID())),
  'says that it speaks another protocol': (agentId) => (_request, response) =>
    void response.write(agentLine(agentId).replace(`"protocol":${PROTOCOL_VERSION}`, '"protocol":1')),
  'sends an event without end': (agentId) => honestFirst(agentId, flood(Buffer.alloc(1 << 20, 0x61))),
  'sends events that are none': (agentId) =>
    honestFirst(agentId, (_request, response) => void response.end('{"type":"begin","pools":7}\n')),
  'ends a list of domains that it had not begun': (agentId) =>
    honestFirst(agentId, (_request, response) => void response.write('{"type":"domains-end","now":"x"}\n')),
  'tells of more domains in a line than there may be': (agentId) =>
    honestFirst(agentId, (_request, response) => {
      const domain = {
        name: 'd',
        origin: 'libvirt',
        state: 'running',
        persistent: true,
        images: [],
        uses: [],
      };
      const event = { type: 'domains', domains: Array(100_000).fill(domain), gone: [] };
      response.write(`${JSON.stringify(event)}\n`);
    }),
  'says that it holds a million transfers': (agentId) =>
    honestFirst(agentId, (_request, response) => {
      const transfers = Array(1_000_000).fill({ id: randomUUID(), touchedAt: 0 });
      response.write(`${JSON.stringify({ type: 'transfers', transfers })}\n`);
    }),
  'tells without end': (agentId) =>
    honestFirst(agentId, (_request, response) => {
      const more = (): void => {
        while (!response.destroyed && response.write('{"type":"begin","pools":[]}\n'));
      };
      response.on('drain', more);
      response.on('error', () => undefined);
      more();
    }),
  'ends its events at once': (agentId) => honestFirst(agentId, (_request, response) => void response.end()),
};

/** A pool with one volume, as an agent tells of them. */
function eventsOfLiar(id: string): AgentEvent[] {
  const definition = poolDefinitionSchema.parse({
    name: 'p',
    uuid: randomUUID(),
    type: 'dir',
    target: { path: '/srv' },
  });
  const space = { capacityBytes: 1 << 30, allocationBytes: 0, availableBytes: 1 << 30 };
  const now = { generation: randomUUID(), revision: 1 };
  const volume = volumeSchema.parse({
    id,
    name: 'v',
    type: 'file',
    format: 'raw',
    path: '/srv/v',
    capacityBytes: 1 << 20,
    allocationBytes: 0,
    snapshotCount: 0,
    etag: 'x',
  });
  return [
    { type: 'begin', pools: ['p'] },
    { type: 'pool', pool: { ...definition, state: 'running', since: 1, ...space } },
    { type: 'volumes-begin', pool: 'p' },
    { type: 'volumes', pool: 'p', volumes: [volume], gone: [] },
    { type: 'volumes-end', pool: 'p', now },
  ];
}

describe('an enrolled agent that lies', () => {
  const room = scratch();
  let controller: TestController;

  before(async () => {
    controller = await TestController.start(join(room.path, 'data'), []);
  });
  after(async () => {
    await controller[Symbol.asyncDispose]();
    await room[Symbol.asyncDispose]();
  });

  /** Dials in as an agent whose HTTP server is `handler`. Gives what it logs. */
  async function dial(name: string, agentId: string, handler: Handler) {
    const { token } = JSON.parse(await controller.cliOk('--json', 'host', 'token', name)) as {
      token: string;
    };
    const stateDirectory = join(room.path, name);
    mkdirSync(stateDirectory);
    const tokenFile = join(stateDirectory, 'token');
    writeFileSync(tokenFile, token);
    const stop = new AbortController();
    const server = createServer(handler);
    const said: string[] = [];
    const ended = keepConnected(
      { controller: controller.url, tokenFile, stateDirectory, agentId, log: (text) => void said.push(text) },
      server,
      stop.signal,
    ).catch((error: Error) => void said.push(error.message));
    return {
      said,
      async [Symbol.asyncDispose]() {
        stop.abort();
        server.closeAllConnections();
        await ended;
      },
    };
  }

  async function within(work: Promise<unknown>, what: string): Promise<void> {
    const late = new Promise((_, reject) =>
      setTimeout(() => reject(new Error(`${what} took more than ${BOUND_MS} ms`)), BOUND_MS).unref(),
    );
    await Promise.race([work, late]);
  }

  for (const [index, [what, lie]] of Object.entries(LIES).entries())
    test(`${what}: others work, and it can be removed`, async () => {
      const name = `liar-${index}`;
      const agentId = randomUUID();
      await using _agent = await dial(name, agentId, lie(agentId));
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await within(
        controller.cliOk('vol', 'create', `local/default/v${index}`, '--capacity', '1M'),
        'a volume on another host',
      );
      await within(controller.cliOk('host', 'remove', name), 'host remove');
    });

  test('one that says it is the agent of another host is not let in, and that host stays', async () => {
    const local = JSON.parse(await controller.cliOk('--json', 'host', 'show', 'local')) as {
      agentId: string;
    };
    await using thief = await dial(
      'thief',
      local.agentId,
      honestFirst(local.agentId, () => undefined),
    );
    await until('it to be refused', () => thief.said.some((text) => /is host 'local' already/.test(text)));
    await controller.kill('SIGTERM');
    await controller.restart();
    await controller.cliOk('vol', 'create', 'local/default/still', '--capacity', '1M');
    await controller.cliOk('host', 'remove', 'thief');
  });

  test('a source that lies of ids and of who was refused takes no id and fills no trail', async () => {
    const { id } = JSON.parse(
      await controller.cliOk('--json', 'vol', 'create', 'local/default/mine', '--capacity', '1M'),
    ) as { id: string };
    const agentId = randomUUID();
    const lie = honestFirst(agentId, (request, response) => {
      const { url = '' } = request;
      const line = (value: unknown): void => void response.write(`${JSON.stringify(value)}\n`);
      if (url === '/v1/events') for (const event of eventsOfLiar(randomUUID())) line(event);
      else if (url.endsWith('/refuse-used')) response.end('{}');
      else if (url.includes('/layout')) {
        const parts = [{ name: '', sizeBytes: 1 << 20, dense: false }];
        line({ parts, format: 'raw', capacityBytes: 1 << 20, volumeId: id, etag: 'x' });
        response.end();
      } else if (url === '/v1/sends') {
        line({ addresses: ['192.0.2.1'], port: 9 });
        for (let count = 0; count < 5000; count++)
          line({ refused: { from: 'root@example', reason: 'it stole everything' } });
      } else response.end();
    });
    await using _agent = await dial('source', agentId, lie);
    await until('its volume to be known', async () =>
      (await controller.cliOk('vol', 'list')).includes('source/p/v'),
    );
    const job = JSON.parse(
      await controller.cliOk('--json', 'vol', 'migrate', 'source/p/v', 'local/default/got', '--no-wait'),
    ) as { id: number };
    const claims = async () =>
      (
        await controller.api<{ actor: string; outcome: string; detail: string }[]>('/audit?limit=1000')
      ).filter(({ detail }) => detail.includes('it stole everything'));
    await until('its claims to be on record', async () => (await claims()).length > 0);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const records = await claims();
    assert.ok(records.length <= 20, `${records.length} records`);
    for (const { actor, detail } of records) {
      assert.equal(actor, 'agent of source');
      assert.match(detail, /the agent of source claims: root@example/);
    }
    const database = new Database(join(room.path, 'data/stowage.db'), { readonly: true });
    const { notes } = database.prepare('SELECT notes FROM jobs WHERE id = ?').get(job.id) as {
      notes: string;
    };
    database.close();
    assert.equal(JSON.parse(notes).spec.volumeId, undefined);
    await controller.cliOk('job', 'cancel', String(job.id));
    await controller.cliOk('host', 'remove', 'source');
  });

  test('what was asked of a host ends with its link; refused ones fill no trail; odd names end no list', async () => {
    const agentId = randomUUID();
    let asked = 0;
    const odd = eventsOfLiar(randomUUID()).map((event) =>
      event.type === 'volumes'
        ? { ...event, volumes: event.volumes.map((each) => ({ ...each, name: 'a/b' })) }
        : event,
    );
    const handler = honestFirst(agentId, (request, response) => {
      if (request.url === '/v1/events')
        for (const event of eventsOfLiar(agentId)) response.write(`${JSON.stringify(event)}\n`);
      else if (request.url?.endsWith('/refuse-used')) response.end('{}');
      else asked++;
    });
    {
      await using _agent = await dial('cable', agentId, handler);
      await until('its volume to be known', async () =>
        (await controller.cliOk('vol', 'list')).includes('cable/p/v'),
      );
      const resize = controller.cli('vol', 'resize', 'cable/p/v', '4M');
      await until('it to be asked', () => asked > 0);
      // The agent hangs up, and answers no more.
      await _agent[Symbol.asyncDispose]();
      await within(resize, 'the end of what was asked');
      assert.match((await resize).stderr, /stream-cut|host-unreachable/);
    }
    await within(controller.cliOk('host', 'remove', 'cable'), 'host remove');
    const before = (await controller.api<unknown[]>('/audit?limit=1000')).length;
    for (let count = 0; count < 60; count++) {
      const socket = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/agents/link`);
      await new Promise<void>((done) => {
        socket.on('open', () => socket.send('{}'));
        socket.on('close', () => done());
        socket.on('error', () => done());
      });
    }
    assert.ok((await controller.api<unknown[]>('/audit?limit=1000')).length - before <= 25);
    const slashes = randomUUID();
    await using _odd = await dial(
      'odd',
      slashes,
      honestFirst(slashes, (_request, response) => {
        for (const event of odd) response.write(`${JSON.stringify(event)}\n`);
      }),
    );
    await new Promise((done) => setTimeout(done, 1500));
    await within(controller.cliOk('vol', 'list'), 'a list');
    assert.doesNotMatch(await controller.cliOk('vol', 'list'), /odd/);
    await controller.cliOk('host', 'remove', 'odd');
  });

  test('one that says that its volume stands on the base of another host keeps that from nothing', async () => {
    await controller.cliOk('vol', 'create', 'local/default/base', '--capacity', '1M');
    await controller.cliOk('vol', 'base', 'local/default/base');
    const { id } = JSON.parse(await controller.cliOk('--json', 'vol', 'show', 'local/default/base')) as {
      id: string;
    };
    const agentId = randomUUID();
    const claims = eventsOfLiar(randomUUID()).map((event) =>
      event.type === 'volumes'
        ? { ...event, volumes: event.volumes.map((each) => ({ ...each, parentId: id })) }
        : event,
    );
    await using _agent = await dial(
      'heir',
      agentId,
      honestFirst(agentId, (_request, response) => {
        for (const event of claims) response.write(`${JSON.stringify(event)}\n`);
      }),
    );
    await until('its volume to be known', async () =>
      (await controller.cliOk('vol', 'list')).includes('heir/p/v'),
    );
    await controller.cliOk('vol', 'delete', 'local/default/base', '--yes');
    await controller.cliOk('host', 'remove', 'heir');
  });

  test('a controller with such agents ends when it is told to', async () => {
    const agentId = randomUUID();
    const handler = honestFirst(agentId, LIES['begins an answer and never ends it']!(agentId));
    await using _agent = await dial('last', agentId, handler);
    await using _other = await dial('silent', randomUUID(), LIES['answers nothing']!(''));
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await within(controller.kill('SIGTERM'), 'the end of the controller');
    await controller.restart();
  });
});
