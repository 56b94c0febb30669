import type { SecretReference } from '../pool-source.ts';
import type { XmlElement } from './element.ts';
import { parseUuid, xmlError } from './values.ts';

export function parseSecretReference(element: XmlElement): SecretReference {
  const [uuid, usage] = [element.attribute('uuid'), element.attribute('usage')];
  if (uuid && usage) throw xmlError('either secret uuid or usage expected');
  if (uuid) return { uuid: parseUuid(uuid, xmlError(`invalid secret uuid '${uuid}'`)) };
  if (usage) return { usage };
  throw xmlError('missing secret uuid or usage attribute');
}
