import { WebSocketServer } from 'ws';
import { clock } from '../../shared/util/clock.ts';
import type { Parts } from '../controller.ts';
import type { FleetEvent } from '../inventory/inventory.ts';
import type { ApiHttp } from './http.ts';

const EVENTS_PATH = '/api/v1/events';
/** A reader so far behind is cut, and reads the lists again when it comes back. */
const BACKLOG_BYTES = 4 << 20;
/** How often it is looked whether a reader's token is still in force. */
const LOOK_MS = 30_000;

/** Events over WebSocket, one JSON text each, to whoever shows a token when the socket opens. */
export function serveEvents(http: ApiHttp, { tokens, inventory, webSockets }: Parts): void {
  const server = new WebSocketServer({ noServer: true, maxPayload: 1024 });
  // A server that closes waits for its sockets, and a reader of events never ends by itself.
  http.addHook('preClose', async () => {
    for (const client of server.clients) client.terminate();
  });
  http.server.on('upgrade', async (request, socket, head) => {
    // Node takes its own listener away before it hands the socket over.
    socket.on('error', () => socket.destroy());
    if (webSockets.handleUpgrade(request, socket, head)) return;
    const refuse = (status: string): void =>
      void socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    if (request.url !== EVENTS_PATH) return refuse('404 Not Found');
    const actor = await tokens.authenticate(request.headers.authorization).catch(() => undefined);
    if (!actor) return refuse('401 Unauthorized');
    const { authorization } = request.headers;
    server.handleUpgrade(request, socket, head, (webSocket) => {
      const revoked = (name: string): void => {
        if (name === actor.name) webSocket.terminate();
      };
      tokens.on('revoked', revoked);
      // One that expires ends too.
      const look = clock.every(LOOK_MS, () => {
        tokens.authenticate(authorization).catch(() => webSocket.terminate());
      });
      const send = (event: FleetEvent): void => {
        if (webSocket.bufferedAmount > BACKLOG_BYTES) webSocket.terminate();
        else webSocket.send(JSON.stringify(event));
      };
      inventory.on('event', send);
      webSocket.once('close', () => {
        look.stop();
        tokens.off('revoked', revoked);
        inventory.off('event', send);
      });
      webSocket.on('error', () => webSocket.terminate());
    });
  });
}
