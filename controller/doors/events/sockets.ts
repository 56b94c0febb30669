import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../../shared/util/errors.ts';
import type { Principal } from '../../auth/principal.ts';
import type { Doors } from '../doors.ts';
import { rawAnswer } from '../raw-answer.ts';
import type { ApiHttp } from '../rest/http.ts';
import { sinceOf, watch } from './watcher.ts';

const EVENTS_PATH = '/api/v1/events';
const PING_MS = 30_000;

/** Events over WebSocket, one JSON text each, to whoever shows a token when the socket opens; and the sockets of agents. */
export function serveEventSockets(http: ApiHttp, doors: Doors): void {
  const { gate, webSockets, sourceOf } = doors;
  const server = new WebSocketServer({ noServer: true, maxPayload: 1024 });
  // A server that closes waits for its sockets, and a reader of events never ends by itself.
  http.addHook('preClose', async () => {
    for (const client of server.clients) client.terminate();
  });
  http.server.on('upgrade', (request, socket, head) => {
    upgrade(request, socket, head).catch(() => socket.destroy());
  });
  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    // Node takes its own listener away before it hands the socket over.
    socket.on('error', () => socket.destroy());
    if (webSockets.handleUpgrade(request, socket, head, sourceOf(request))) return;
    const refuse = (error: unknown): void => void socket.end(rawAnswer(toStowageError(error)));
    const url = URL.parse(request.url ?? '', 'http://controller');
    if (url?.pathname !== EVENTS_PATH)
      return refuse(new StowageError('route-not-found', 'there are no such sockets'));
    // Of programs, by their tokens: pages of other sites may open sockets, too.
    const credentials = { authorization: request.headers.authorization };
    const source = sourceOf(request);
    let principal: Principal;
    let leave: () => void;
    try {
      principal = await gate.authenticate(credentials, source, 'events');
      leave = doors.eventReaders.enter(principal);
    } catch (error) {
      return refuse(error);
    }
    socket.once('close', leave);
    if (socket.destroyed) return leave();
    server.handleUpgrade(request, socket, head, (webSocket) => {
      const gone = new AbortController();
      // One that does not answer until the next ping is gone, whatever its network says.
      let isAlive = true;
      webSocket.on('pong', () => {
        isAlive = true;
      });
      const ping = clock.every(PING_MS, () => {
        if (!isAlive) return webSocket.terminate();
        isAlive = false;
        webSocket.ping();
      });
      webSocket.once('close', () => {
        ping.stop();
        gone.abort();
      });
      webSocket.on('error', () => webSocket.terminate());
      void watch(
        doors,
        {
          ...{ principal, credentials },
          since: sinceOf(url.searchParams.get('since')),
          // The next one is read when this one is out: a slow reader keeps nothing in memory.
          send: (event) => new Promise((sent) => webSocket.send(JSON.stringify(event), () => sent())),
          end: () => webSocket.terminate(),
        },
        gone.signal,
      );
    });
  };
}
