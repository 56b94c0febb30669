import 'reflect-metadata';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';

type SelfSigned = Parameters<typeof x509.X509CertificateGenerator.createSelfSigned>[0];

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR_MS = 3600_000;
const VALID_MS = 7 * 24 * HOUR_MS;

/** Key and certificate, PEM, that exist for one transfer only; the source knows them by the fingerprint. */
export async function makeCertificate(): Promise<{ key: string; cert: string; fingerprint: string }> {
  x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);
  const keys = await webcrypto.subtle.generateKey(ECDSA, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(8).toString('hex'),
    name: 'CN=stowage-transfer',
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + VALID_MS),
    signingAlgorithm: ECDSA,
    keys: keys as SelfSigned['keys'],
  });
  const key = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const cert = certificate.toString('pem');
  return {
    key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
    cert,
    fingerprint: new X509Certificate(cert).fingerprint256,
  };
}
