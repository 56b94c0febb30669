import { createHash } from 'node:crypto';

/** The same UUID for the same text, and another for any other: version 8 of RFC 9562, made of SHA-256. */
export function hashedUuid(text: string): string {
  const hash = createHash('sha256').update(text).digest('hex');
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}
