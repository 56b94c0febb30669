import type { XmlElement } from './element.ts';
import { enumAttribute, parseUuid, xmlError } from './values.ts';
import type { XmlWriter } from './write.ts';

/** Who logs in to a storage server. The secret itself is elsewhere: here is only which one it is. */
export interface Auth {
  type?: 'chap' | 'ceph';
  username: string;
  secret: { uuid: string } | { usage: string };
}

export function parseAuth(element: XmlElement): Auth {
  const username = element.attribute('username');
  if (!username) throw xmlError('missing username for auth');
  const type = enumAttribute(element, 'type', ['chap', 'ceph'] as const);
  const secret = element.only('secret');
  if (!secret) throw xmlError('Missing <secret> element in auth');
  const [uuid, usage] = [secret.attribute('uuid'), secret.attribute('usage')];
  if (uuid && usage) throw xmlError('either secret uuid or usage expected');
  if (uuid) return { type, username, secret: { uuid: parseUuid(uuid, `invalid secret uuid '${uuid}'`) } };
  if (usage) return { type, username, secret: { usage } };
  throw xmlError('missing secret uuid or usage attribute');
}

export function formatAuth(xml: XmlWriter, { type, username, secret }: Auth): void {
  xml.element('auth', { type, username }, () => xml.empty('secret', secret));
}
