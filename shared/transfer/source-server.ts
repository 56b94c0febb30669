import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket, type TLSSocketOptions, type TlsOptions } from 'node:tls';
import { clock } from '../util/clock.ts';
import { StowageError, toProblem, toStowageError } from '../util/errors.ts';
import { type Frame, FrameParser, messageFrame } from './frames.ts';
import type { Outgoing } from './outgoing.ts';
import { preSharedKey, secureContext, type Ticket } from './tls.ts';

const HANDSHAKE_MS = 10_000;
const GOODBYE_MS = 5_000;
/** Sinks of one transfer at the same time, old ones that are being cut included. */
const MOST_ADMITTED = 8;

export interface SourceServerOptions {
  outgoing: Outgoing;
  ticket: Ticket;
  /** Until when the ticket is good, ms since the epoch. */
  expiresAt: number;
  /** Somebody was not let in. */
  onRefused(from: string, reason: string): void;
}

/** Serves one volume, on any stream, to whoever holds the ticket, until the ticket expires. */
export class SourceServer implements Disposable {
  readonly #options: SourceServerOptions;
  readonly #sockets = new Set<Duplex>();
  #admitted = 0;

  constructor(options: SourceServerOptions) {
    this.#options = options;
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
    for (const socket of this.#sockets) socket.destroy();
  }
}
