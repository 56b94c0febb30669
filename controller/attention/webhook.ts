import { createHash, createHmac } from 'node:crypto';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Channel, Notices } from './channel.ts';

const LEAST_KEY_BYTES = 24;

/** Base64, with or without the mark `whsec_` before it. Throws `invalid-argument`, without what it holds. */
function keyOf(secret: string): Buffer {
  const text = secret.replace(/^whsec_/, '');
  const key = Buffer.from(text, 'base64');
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || key.length < LEAST_KEY_BYTES)
    throw new StowageError(
      'invalid-argument',
      `the secret of a webhook is base64 of ${LEAST_KEY_BYTES} bytes or more, such as \`openssl rand -base64 32\` makes`,
    );
  return key;
}

/**
 * A POST of JSON, signed as in the Standard Webhooks specification: `webhook-id`, `webhook-timestamp` and `webhook-signature`, which is
 * HMAC-SHA256 over `ID.TIMESTAMP.BODY`. Only a status of 2xx counts as taken; it is led nowhere else.
 */
export function webhook({ url, secret }: { url: string; secret: string }): Channel {
  const key = keyOf(secret);
  return {
    // A URL may have a secret in it, which must not get into the log.
    name: `webhook ${new URL(url).origin} ${createHash('sha256').update(url).digest('hex').slice(0, 8)}`,
    async send(notices: Notices, signal) {
      const body = JSON.stringify(notices);
      const timestamp = String(Math.floor(clock.now() / 1000));
      const signature = createHmac('sha256', key)
        .update(`${notices.id}.${timestamp}.${body}`)
        .digest('base64');
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          'content-type': 'application/json',
          'webhook-id': notices.id,
          'webhook-timestamp': timestamp,
          'webhook-signature': `v1,${signature}`,
        },
        body,
        signal,
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`it answered with status ${response.status}`);
    },
  };
}
