import { constants } from 'node:crypto';
import { createSecureContext } from 'node:tls';

/** What admits one sink to one source: made by the controller, given to both, never sent between them. */
export interface Ticket {
  /** Id of the transfer. */
  transfer: string;
  /** 32 random bytes, base64url. */
  secret: string;
}

/**
 * TLS 1.3 between two agents. The ticket is the pre-shared key: each side proves that it holds it, there is no
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
