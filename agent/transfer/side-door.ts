import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { serverTls, type Ticket } from '../../shared/transfer/tls.ts';
import { clock } from '../../shared/util/clock.ts';
import { listenAnywhere } from './door.ts';

/** Whoever was given the ticket dials within this time. */
const OPEN_MS = 10_000;
/** Strangers among them. */
const MOST_CONNECTIONS = 8;

/**
 * Opens a port at which one stream is taken from whoever holds the ticket, and given to `take`; then, or after a moment, it is
 * closed. A controller moves many bytes so: TLS costs a fraction of what SSH does. Gives the port.
 */
export async function openSideDoor(ticket: Ticket, take: (stream: Duplex) => void): Promise<number> {
  const tcp: Server = await listenAnywhere();
  tcp.maxConnections = MOST_CONNECTIONS;
  tcp.on('error', () => undefined);
  const waiting = new Set<Duplex>();
  const close = (): void => {
    timer.stop();
    tcp.close();
    for (const stream of waiting) stream.destroy();
    waiting.clear();
  };
  const timer = clock.after(OPEN_MS, close, false);
  tcp.on('connection', (socket) => {
    const secured = serverTls(socket.setNoDelay(true).setKeepAlive(true, 10_000), ticket);
    waiting.add(socket);
    secured.once('secure', () => {
      if (!waiting.delete(socket)) return;
      close();
      take(secured);
    });
    secured.on('error', () => socket.destroy());
    secured.once('close', () => waiting.delete(socket));
  });
  return (tcp.address() as AddressInfo).port;
}
