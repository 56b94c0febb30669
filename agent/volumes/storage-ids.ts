import { createHash } from 'node:crypto';

/** The id of a volume that a storage names by a number which is never used again: every host that sees it makes the same one. */
export function idOnStorage(storageId: string, fingerprint: string): string {
  const hash = createHash('sha256').update(`${storageId} ${fingerprint}`).digest('hex');
  // Version 8 of RFC 9562: made of a hash as its maker likes.
  return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
}
