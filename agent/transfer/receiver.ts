import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Receiver } from '../../shared/protocol/agent.ts';
import { decodeExtents } from '../../shared/transfer/receive.ts';
import { StowageError, toProblem, toStowageError } from '../../shared/util/errors.ts';
import type { Sink } from '../backends/backend.ts';

export interface Ticket {
  secret: string;
  /** ms since the epoch. */
  expiresAt: number;
}

/** Addresses under which a peer may reach this host; loopback last, for agents on one machine. */
function localAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  const usable = all.filter((address) => address.family === 'IPv4' || !address.address.startsWith('fe80'));
  const outer = usable.filter((address) => !address.internal).map((address) => address.address);
  return [...outer, '127.0.0.1'];
}

/**
 * The sink's own door for one transfer: TLS 1.3 on a port of its own, or on streams that the controller brings. It
 * serves whoever shows the ticket, for this one sink, in this one direction, until the ticket expires.
 *
 *     GET /digests   the chunks that are on record, with their digests
 *     PUT /extents   an extent stream; answered when all of it is written and nearly all of it durable
 */
export class TransferReceiver {
  readonly #sink: Sink;
  readonly #ticket: Ticket;
  readonly #key: string;
  readonly #cert: string;
  readonly #tcp: Server;
  readonly #http = createServer((request, response) => void this.#serve(request, response));
  readonly #sockets = new Set<Duplex>();
  readonly description: Receiver;

  private constructor(
    sink: Sink,
    ticket: Ticket,
    certificate: { key: string; cert: string; fingerprint: string },
    tcp: Server,
  ) {
    this.#sink = sink;
    this.#ticket = ticket;
    this.#key = certificate.key;
    this.#cert = certificate.cert;
    this.#tcp = tcp;
    tcp.on('connection', (socket) => this.accept(socket.setNoDelay(true)));
    this.#http.requestTimeout = 0;
    this.description = {
      addresses: localAddresses(),
      port: (tcp.address() as AddressInfo).port,
      fingerprint: certificate.fingerprint,
    };
  }

  static async open(sink: Sink, ticket: Ticket): Promise<TransferReceiver> {
    // Loaded when the first transfer needs it: an agent that only looks after volumes starts faster and stays smaller.
    const { makeCertificate } = await import('./certificate.ts');
    const certificate = await makeCertificate();
    const tcp = createTcpServer();
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', reject);
      tcp.listen(0, resolve);
    });
    return new TransferReceiver(sink, ticket, certificate, tcp);
  }

  /** Speaks TLS, as the server, over any stream. */
  accept(stream: Duplex): void {
    const socket = new TLSSocket(stream as ConstructorParameters<typeof TLSSocket>[0], {
      isServer: true,
      key: this.#key,
      cert: this.#cert,
      minVersion: 'TLSv1.3',
    });
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => stream.destroy());
    this.#http.emit('connection', socket);
  }

  #authorise(request: IncomingMessage): void {
    const shown = createHash('sha256')
      .update(request.headers.authorization ?? '')
      .digest();
    const wanted = createHash('sha256').update(`Bearer ${this.#ticket.secret}`).digest();
    if (!timingSafeEqual(shown, wanted))
      throw new StowageError('ticket-refused', 'the ticket is not for this transfer');
    if (Date.now() > this.#ticket.expiresAt)
      throw new StowageError('ticket-refused', 'the ticket has expired');
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      this.#authorise(request);
      if (request.method === 'GET' && request.url === '/digests') {
        response.end(this.#sink.digests.serialise());
        return;
      }
      if (request.method === 'PUT' && request.url === '/extents') {
        await decodeExtents(request, this.#sink.digests.map, (chunk) => this.#sink.write(chunk));
        response.writeHead(204).end();
        return;
      }
      throw new StowageError('route-not-found', `${request.method} ${request.url} is not served here`);
    } catch (error) {
      const problem = toProblem(toStowageError(error));
      if (response.headersSent || request.destroyed) return;
      response.writeHead(problem.status, { 'content-type': 'application/problem+json', connection: 'close' });
      response.end(JSON.stringify(problem));
      request.resume();
    }
  }

  close(): void {
    this.#tcp.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
