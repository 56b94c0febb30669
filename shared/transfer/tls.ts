import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import {
  connect as connectTls,
  createSecureContext,
  TLSSocket,
  type TLSSocketOptions,
  type TlsOptions,
} from 'node:tls';
import { StowageError } from '../util/errors.ts';

/**
 * What admits one end of a stream to the other. Of a transfer: made by the controller, given to both agents, never sent between
 * them. Of a link: made by both ends of it.
 */
export interface Ticket {
  /** Id of the transfer, or of the stream of a link. */
  transfer: string;
  /** 32 random bytes, base64url. */
  secret: string;
}

/**
 * TLS 1.3 between two that hold the same ticket. The ticket is the pre-shared key: each side proves that it holds it, there is no
 * certificate and no authority, and the keys of the session are fresh all the same. The suites are those that go with
 * such a key, the cheapest first.
 */
export const secureContext = createSecureContext({
  ca: [],
  minVersion: 'TLSv1.3',
  // A session that is taken up again is not asked for its ticket: one door would let in whom another knows.
  secureOptions: constants.SSL_OP_NO_TICKET,
  ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256',
});

export function preSharedKey(ticket: Ticket): Buffer {
  return Buffer.from(ticket.secret, 'base64url');
}

/** The accepting end of TLS on a stream that somebody brought, for whoever holds the ticket. */
export function serverTls(stream: Duplex, ticket: Ticket): TLSSocket {
  // What a TLS server may be given, each of its sockets may be given too; the types of the latter lack it.
  const options: TLSSocketOptions & Pick<TlsOptions, 'pskCallback'> = {
    isServer: true,
    secureContext,
    pskCallback: (_socket, identity) => (identity === ticket.transfer ? preSharedKey(ticket) : null),
  };
  return new TLSSocket(stream as Socket, options);
}

/** The asking end. What it sends waits until the other has shown that it holds the ticket too. */
export function clientTls(stream: Duplex, ticket: Ticket): TLSSocket {
  return connectTls({
    secureContext,
    socket: stream as Socket,
    pskCallback: () => ({ identity: ticket.transfer, psk: preSharedKey(ticket) }),
    // Asked only of a certificate, which the other end has none of.
    checkServerIdentity: () => new StowageError('ticket-refused', 'what answers does not hold the ticket'),
  });
}
