import type { XmlElement } from './element.ts';
import { parseSecretReference, type SecretReference } from './secret.ts';
import { enumAttribute, xmlError } from './values.ts';
import type { XmlWriter } from './write.ts';

/** Who logs in to a storage server. */
export interface Auth {
  type?: 'chap' | 'ceph';
  username: string;
  secret: SecretReference;
}

export function parseAuth(element: XmlElement): Auth {
  const username = element.attribute('username');
  if (!username) throw xmlError('missing username for auth');
  const type = enumAttribute(element, 'type', ['chap', 'ceph'] as const);
  const secret = element.only('secret');
  if (!secret) throw xmlError('Missing <secret> element in auth');
  return { type, username, secret: parseSecretReference(secret) };
}

export function formatAuth(xml: XmlWriter, { type, username, secret }: Auth): void {
  xml.element('auth', { type, username }, () => xml.empty('secret', secret));
}
