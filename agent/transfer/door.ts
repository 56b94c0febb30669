import { createHash, timingSafeEqual } from 'node:crypto';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import type { Offer } from '../../shared/protocol/agent.ts';
import { type Frame, FrameParser, messageFrame } from '../../shared/transfer/frames.ts';
import { StowageError, toProblem, toStowageError } from '../../shared/util/errors.ts';
import type { Outgoing } from './outgoing.ts';
import { TLS } from './tls.ts';

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
 * The source's own door for one transfer: TLS 1.3 on a port of its own, or on streams that the controller brings. It
 * serves whoever shows the ticket as the first message, with this one volume, until the ticket expires.
 */
export class SourceDoor implements Disposable {
  readonly #outgoing: Outgoing;
  readonly #ticket: Ticket;
  readonly #tls: SecureContext;
  readonly #tcp: Server;
  readonly #sockets = new Set<Duplex>();
  readonly offer: Offer;

  private constructor(
    outgoing: Outgoing,
    ticket: Ticket,
    certificate: { key: string; cert: string; fingerprint: string },
    tcp: Server,
  ) {
    this.#outgoing = outgoing;
    this.#ticket = ticket;
    this.#tls = createSecureContext({ key: certificate.key, cert: certificate.cert, ca: [], ...TLS });
    this.#tcp = tcp;
    tcp.on('connection', (socket) => this.accept(socket.setNoDelay(true).setKeepAlive(true, 10_000)));
    this.offer = {
      addresses: localAddresses(),
      port: (tcp.address() as AddressInfo).port,
      fingerprint: certificate.fingerprint,
    };
  }

  static async open(outgoing: Outgoing, ticket: Ticket): Promise<SourceDoor> {
    // Loaded when the first transfer needs it: an agent that only looks after volumes starts faster and stays smaller.
    const { makeCertificate } = await import('./certificate.ts');
    const certificate = await makeCertificate();
    const tcp = createServer();
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', reject);
      tcp.listen(0, resolve);
    });
    return new SourceDoor(outgoing, ticket, certificate, tcp);
  }

  /** Speaks TLS, as the server, over any stream. */
  accept(stream: Duplex): void {
    const socket = new TLSSocket(stream as ConstructorParameters<typeof TLSSocket>[0], {
      isServer: true,
      secureContext: this.#tls,
    });
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => stream.destroy());
    void this.#converse(socket);
  }

  /** The first frame must be the message `{"ticket":…}`, and is compared before anything is made of it. */
  #admit(frame: Frame): void {
    const hash = (bytes: Buffer | string): Buffer => createHash('sha256').update(bytes).digest();
    const wanted = hash(JSON.stringify({ ticket: this.#ticket.secret }));
    if (frame.type !== 'message' || !timingSafeEqual(hash(frame.payload), wanted))
      throw new StowageError('ticket-refused', 'the ticket is not for this transfer');
    if (Date.now() > this.#ticket.expiresAt)
      throw new StowageError('ticket-refused', 'the ticket has expired');
  }

  /** Answers one question after the other. */
  async #converse(socket: TLSSocket): Promise<void> {
    const frames: Frame[] = [];
    const parser = new FrameParser(this.#outgoing.map.digestBytes, {
      room() {
        throw new StowageError('stream-corrupt', 'the sink of a transfer sends no data');
      },
      frame: (frame) => void frames.push(frame),
    });
    let admitted = false;
    try {
      for await (const piece of socket.iterator({ destroyOnReturn: false })) {
        parser.feed(piece as Buffer);
        for (const frame of frames.splice(0)) {
          if (admitted) await this.#outgoing.answer(frame, socket);
          else this.#admit(frame);
          admitted = true;
        }
      }
    } catch (error) {
      if (socket.writable) socket.end(messageFrame({ error: toProblem(toStowageError(error)) }));
    }
  }

  [Symbol.dispose](): void {
    this.#tcp.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
