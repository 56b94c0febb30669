import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { keptFile } from '../../store/kept-file.ts';

const YEARS_MS = 10 * 365 * 24 * 3600_000;

/** What the API's TLS is spoken with. */
export interface Certificate {
  /** PEM. */
  cert: string;
  key: string;
  /** SHA-256 of the certificate, as openssl writes it: `AB:CD:…`. */
  fingerprint: string;
  /** Nobody but we vouches for it: clients know it by its fingerprint. */
  selfSigned: boolean;
}

function certificateOf(cert: string, key: string, selfSigned: boolean): Certificate {
  return { cert, key, fingerprint: new X509Certificate(cert).fingerprint256, selfSigned };
}

/** Those of a certificate authority, read from files. Throws `invalid-argument` for what is none. */
export function readCertificate(certFile: string, keyFile: string): Certificate {
  try {
    const [cert, key] = [readFileSync(certFile, 'utf8'), readFileSync(keyFile, 'utf8')];
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new Error('the key is not that of the certificate');
    return certificateOf(cert, key, false);
  } catch (error) {
    throw new StowageError('invalid-argument', `the certificate cannot be used: ${(error as Error).message}`);
  }
}

/** One of our own, made at the first start and kept with the data. An unreadable one is no missing one: clients know it. */
export async function ownCertificate(dataDirectory: string): Promise<Certificate> {
  const now = clock.now();
  // Made in case there is none yet.
  const made = await generate([{ name: 'commonName', value: hostname() }], {
    keyType: 'ec',
    algorithm: 'sha256',
    notBeforeDate: new Date(now - 24 * 3600_000),
    notAfterDate: new Date(now + YEARS_MS),
  });
  // One file holds both: there is never one without the other.
  const pem = keptFile(join(dataDirectory, 'tls.pem'), () => `${made.cert}\n${made.private}`);
  const [cert = '', key = ''] = pem.split(/(?<=-----END CERTIFICATE-----\n)/);
  return certificateOf(cert, key, true);
}
