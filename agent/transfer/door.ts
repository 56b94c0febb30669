import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket, type TLSSocketOptions, type TlsOptions } from 'node:tls';
import type { Offer } from '../../shared/protocol/agent.ts';
import { type Frame, FrameParser, messageFrame } from '../../shared/transfer/frames.ts';
import { preSharedKey, secureContext, type Ticket } from '../../shared/transfer/tls.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError, toProblem, toStowageError } from '../../shared/util/errors.ts';
import type { Outgoing } from './outgoing.ts';

const HANDSHAKE_MS = 10_000;
const GOODBYE_MS = 5_000;
const MOST_CONNECTIONS = 64;
/** Sinks of one transfer at the same time, old ones that are being cut included. */
const MOST_ADMITTED = 8;

export interface DoorOptions {
  outgoing: Outgoing;
  ticket: Ticket;
  /** Until when the ticket is good, ms since the epoch. */
  expiresAt: number;
  /** Somebody was not let in. */
  onRefused(from: string, reason: string): void;
}

/**
 * The source's own door for one transfer: TLS on a port of its own, or on streams that the controller brings. It serves
 * whoever holds the ticket, with this one volume, until the ticket expires.
 */
export class SourceDoor implements Disposable {
  readonly #options: DoorOptions;
  readonly #tcp: Server;
  readonly #sockets = new Set<Duplex>();
  #admitted = 0;
  readonly offer: Offer;

  private constructor(options: DoorOptions, tcp: Server) {
    this.#options = options;
    this.#tcp = tcp;
    tcp.maxConnections = MOST_CONNECTIONS;
    // One connection that could not be taken is not the end of the door.
    tcp.on('error', () => undefined);
    tcp.on('connection', (socket) =>
      this.accept(socket.setNoDelay(true).setKeepAlive(true, 10_000), socket.remoteAddress),
    );
    this.offer = { port: (tcp.address() as AddressInfo).port };
  }

  static async open(options: DoorOptions): Promise<SourceDoor> {
    const tcp = createServer();
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', reject);
      tcp.listen(0, resolve);
    });
    return new SourceDoor(options, tcp);
  }

  /** Speaks TLS, as the server, over any stream. `from` says whose it is. */
  accept(stream: Duplex, from = 'the controller'): void {
    const { ticket, expiresAt, onRefused } = this.#options;
    let reason = 'it does not hold the ticket';
    let admitted = false;
    // What a TLS server may be given, each of its sockets may be given too; the types of the latter lack it.
    const options: TLSSocketOptions & Pick<TlsOptions, 'pskCallback'> = {
      isServer: true,
      secureContext,
      pskCallback(_socket, identity) {
        if (identity !== ticket.transfer) reason = 'its ticket is for another transfer';
        else if (clock.now() > expiresAt) reason = 'its ticket has expired';
        else return preSharedKey(ticket);
        return null;
      },
    };
    const socket = new TLSSocket(stream as Socket, options);
    this.#sockets.add(socket);
    // Who connects and says nothing holds nothing open for long.
    const patience = clock.after(HANDSHAKE_MS, () => socket.destroy(new Error('no handshake')));
    socket.once('secure', () => {
      admitted = true;
      patience.stop();
      if (++this.#admitted > MOST_ADMITTED) socket.destroy();
    });
    socket.once('close', () => {
      patience.stop();
      this.#sockets.delete(socket);
      if (admitted) this.#admitted--;
    });
    socket.once('error', () => {
      if (!admitted) onRefused(from, reason);
      stream.destroy();
    });
    void this.#converse(socket);
  }

  /** Answers one question after the other. */
  async #converse(socket: TLSSocket): Promise<void> {
    const { outgoing } = this.#options;
    const frames: Frame[] = [];
    const parser = new FrameParser(outgoing.map.digestBytes, {
      room() {
        throw new StowageError('stream-corrupt', 'the sink of a transfer sends no data');
      },
      frame: (frame) => void frames.push(frame),
    });
    try {
      for await (const piece of socket.iterator({ destroyOnReturn: false })) {
        parser.feed(piece as Buffer);
        for (const frame of frames.splice(0)) await outgoing.answer(frame, socket);
      }
    } catch (error) {
      if (!socket.writable) return;
      socket.end(messageFrame({ error: toProblem(toStowageError(error)) }));
      clock.after(GOODBYE_MS, () => socket.destroy(), false);
    }
  }

  [Symbol.dispose](): void {
    this.#tcp.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
