import type { Auth } from '../pool-source.ts';
import type { XmlElement } from './element.ts';
import { parseSecretReference } from './secret.ts';
import { enumAttribute, xmlError } from './values.ts';
import type { XmlWriter } from './write.ts';

export const SECRET_TYPES: readonly string[] = ['volume', 'ceph', 'iscsi', 'tls', 'vtpm'];

export function parseAuth(element: XmlElement): Auth {
  const username = element.attribute('username');
  if (!username) throw xmlError('missing username for auth');
  const type = enumAttribute(element, 'type', ['chap', 'ceph'] as const);
  const secret = element.one('secret');
  if (!secret) throw xmlError('Missing <secret> element in auth');
  return { type, username, secret: parseSecretReference(secret) };
}

/** The same for a disk, which tells the kind of secret; whether the kind is right is for the rules. */
export function parseDiskAuth(element: XmlElement): Auth {
  return { ...parseAuth(element), secretType: element.one('secret')?.attributes.get('type') };
}

export function formatAuth(xml: XmlWriter, { type, username, secret, secretType }: Auth): void {
  xml.element('auth', { type, username }, () => xml.empty('secret', { type: secretType, ...secret }));
}
