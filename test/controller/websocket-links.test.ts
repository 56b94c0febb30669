import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { keepConnected } from '../../agent/connect.ts';
import { AuditTrail } from '../../controller/audit/trail.ts';
import { WebSocketLinks } from '../../controller/hosts/websocket-links.ts';
import { openStore } from '../../controller/store/store.ts';
import { PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import { TestController, until } from '../support/controller.ts';
import { freePort } from '../support/hosts.ts';
import { scratch } from '../support/scratch.ts';

test('who waits for an agent to dial in is let go when the host goes, before the wait or in it', async () => {
  await using room = scratch();
  const store = await openStore(join(room.path, 'stowage.db'));
  const links = new WebSocketLinks(store, new AuditTrail(store, room.path), room.path);
  await assert.rejects(links.next('host', AbortSignal.abort()), { code: 'cancelled' });
  const stop = new AbortController();
  const waiting = links.next('host', stop.signal);
  stop.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  await store.close();
});

/** An agent that says who it is and tells nothing. It dials `url`. */
function startAgent(stateDirectory: string, url: string, tokenFile?: string) {
  const agentId = randomUUID();
  const info = {
    protocol: PROTOCOL_VERSION,
    version: '0',
    bundle: '',
    agentId,
    hostname: 'marker-of-this-agent',
    pid: 1,
    rssBytes: 1,
    refusedBackends: [],
    backends: [],
  };
  let asked = 0;
  const server = createHttpServer((request, response) => {
    asked++;
    if (request.url === '/v1/events')
      response.write(`${JSON.stringify({ type: 'agent', info })}\n{"type":"begin","pools":[]}\n`);
    else response.end('[]');
  });
  const stop = new AbortController();
  const said: string[] = [];
  const log = (text: string): void => void said.push(text);
  const ended = keepConnected(
    { controller: url, tokenFile, stateDirectory, agentId, log },
    server,
    stop.signal,
  );
  return {
    said,
    get asked() {
      return asked;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      server.closeAllConnections();
      await ended;
    },
  };
}

/** Somebody between an agent and its controller, who passes everything on and reads it. */
async function between(url: string) {
  const heard: string[] = [];
  const port = await freePort();
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(new URL(url).port), '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (data) => {
        heard.push(data.toString('latin1'));
        to.write(data);
      });
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  });
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${port}`,
    heard: () => heard.join(''),
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

async function enrolled(controller: TestController, path: string, name: string, url: string) {
  const { token } = JSON.parse(await controller.cliOk('--json', 'host', 'token', name)) as { token: string };
  const stateDirectory = join(path, name);
  mkdirSync(stateDirectory);
  const tokenFile = join(stateDirectory, 'token');
  writeFileSync(tokenFile, token);
  return { stateDirectory, agent: startAgent(stateDirectory, url, tokenFile) };
}

const isReachable = (controller: TestController, name: string) => async (): Promise<boolean> =>
  new RegExp(`${name} +websocket +reachable`).test(await controller.cliOk('host', 'list'));

test('whoever is between an agent and its controller reads nothing of it, and cannot speak for it', async () => {
  await using room = scratch();
  await using controller = await TestController.start(join(room.path, 'data'));
  using spy = await between(controller.url);
  const { agent } = await enrolled(controller, room.path, 'far', spy.url);
  await using _agent = agent;
  await until('the agent is linked', isReachable(controller, 'far'));
  // Of the controller's requests, which no WebSocket masks, nothing can be read.
  assert.match(spy.heard(), /GET \/api\/v1\/agents\/streams\//);
  assert.doesNotMatch(spy.heard(), /\/v1\/info|\/v1\/events|marker-of-this-agent/);
  // It has read which streams were asked for, and cannot serve one of them.
  const ids = [...spy.heard().matchAll(/agents\/streams\/([\w-]{20,})/g)].map(([, id]) => id);
  const thief = new WebSocket(`${controller.url.replace('http', 'ws')}/api/v1/agents/streams/${ids[0]}`);
  const [status] = await new Promise<[number | undefined]>((done) => {
    thief.once('unexpected-response', (_request, response) => done([response.statusCode]));
    thief.once('open', () => done([101]));
  });
  assert.equal(status, 403, 'a stream is opened once');
});

test('an agent shows itself to no other controller than the one it was enrolled at', async () => {
  await using room = scratch();
  await using controller = await TestController.start(join(room.path, 'data'));
  await using other = await TestController.start(join(room.path, 'other'));
  const { stateDirectory, agent } = await enrolled(controller, room.path, 'kept', controller.url);
  await until('the agent is linked', isReachable(controller, 'kept'));
  await agent[Symbol.asyncDispose]();
  const pinned = readFileSync(join(stateDirectory, 'controller-key'), 'utf8');
  {
    await using lost = startAgent(stateDirectory, other.url);
    await until('it refuses', () => lost.said.some((text) => text.includes(`with the key ${pinned}`)));
    assert.equal(lost.asked, 0);
  }
  // A token for another controller is shown to nobody but that one.
  const { token } = JSON.parse(await other.cliOk('--json', 'host', 'token', 'new')) as { token: string };
  const tokenFile = join(room.path, 'foreign');
  writeFileSync(tokenFile, token);
  mkdirSync(join(room.path, 'fresh'));
  await using misled = startAgent(join(room.path, 'fresh'), controller.url, tokenFile);
  await until('it refuses', () => misled.said.some((text) => text.includes('nothing was sent')));
  assert.doesNotMatch(await controller.cliOk('audit', 'list', '-o', 'csv'), /enrolment token is unknown/);
});
