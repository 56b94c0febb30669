import type { SecretReference } from '../pool-source.ts';
import type { XmlElement } from './element.ts';
import { parseSecretReference } from './secret.ts';
import { enumAttribute, integerAttribute, unsupported, xmlError } from './values.ts';
import type { XmlWriter } from './write.ts';

const FORMATS = ['default', 'qcow', 'luks', 'luks2'] as const;
const ENGINES = ['qemu', 'librbd'] as const;

/** How the content of a volume is encrypted. */
export interface Encryption {
  format: (typeof FORMATS)[number];
  /** Who decrypts: the emulator, or the client of a Ceph cluster. */
  engine?: (typeof ENGINES)[number];
  secrets: SecretReference[];
  cipher?: { name: string; sizeBits: number; mode?: string; hash?: string };
  /** How the vectors that each sector's encryption starts from are made. */
  ivgen?: { name: string; hash?: string };
}

function parseSecret(element: XmlElement): SecretReference {
  const type = element.attribute('type');
  if (!type) throw xmlError('unknown volume encryption secret type');
  if (type !== 'passphrase') throw xmlError(`unknown volume encryption secret type ${type}`);
  return parseSecretReference(element);
}

function required(element: XmlElement, name: string): string {
  const value = element.attribute(name);
  if (!value) throw xmlError(`Missing required attribute '${name}' in element '${element.name}'`);
  return value;
}

export function parseEncryption(element: XmlElement): Encryption {
  const name = element.attribute('format');
  if (!name) throw xmlError('unknown volume encryption format');
  const format = FORMATS.find((known) => known === name);
  if (!format) throw unsupported(`unknown volume encryption format type ${name}`);
  const cipher = element.one('cipher');
  const ivgen = element.one('ivgen');
  if (ivgen && !cipher) throw xmlError('cipher info missing in volume encryption');
  return {
    format,
    engine: enumAttribute(element, 'engine', ENGINES),
    secrets: element.all('secret').map(parseSecret),
    cipher: cipher && {
      name: required(cipher, 'name'),
      sizeBits: integerAttribute(cipher, 'size') ?? Number(required(cipher, 'size')),
      mode: cipher.attribute('mode'),
      hash: cipher.attribute('hash'),
    },
    ivgen: ivgen && { name: required(ivgen, 'name'), hash: ivgen.attribute('hash') },
  };
}

export function formatEncryption(
  xml: XmlWriter,
  { format, engine, secrets, cipher, ivgen }: Encryption,
): void {
  xml.element('encryption', { format, engine }, () => {
    for (const secret of secrets) xml.empty('secret', { type: 'passphrase', ...secret });
    if (cipher)
      xml.empty('cipher', { name: cipher.name, size: cipher.sizeBits, mode: cipher.mode, hash: cipher.hash });
    if (ivgen) xml.empty('ivgen', { ...ivgen });
  });
}
