import {
  createHash,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';

/*
 * How both ends of a link prove who they are, as in SIGMA: each brings a fresh X25519 key and signs both with its Ed25519
 * key, the agent the controller's own key as well. From the fresh keys both make a secret, with which the streams of the
 * link are TLS 1.3: whoever only passes the messages on cannot speak in anybody's place.
 */

/** Both fresh keys, in the order in which they were sent. */
export interface LinkKeys {
  agent: string;
  controller: string;
}

/** The fresh key of one end. */
export class LinkKey {
  readonly #privateKey: KeyObject;
  /** SPKI in DER, base64. */
  readonly publicKey: string;

  constructor() {
    const { privateKey, publicKey } = generateKeyPairSync('x25519');
    this.#privateKey = privateKey;
    this.publicKey = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');
  }

  /** The secret of the link, base64url. Throws when the other's key is none. */
  secret(theirs: string, keys: LinkKeys): string {
    const publicKey = createPublicKey({ key: Buffer.from(theirs, 'base64'), type: 'spki', format: 'der' });
    const shared = diffieHellman({ privateKey: this.#privateKey, publicKey });
    const salt = createHash('sha256').update(`${keys.agent} ${keys.controller}`).digest();
    return Buffer.from(hkdfSync('sha256', shared, salt, 'stowage-link-v2 streams', 32)).toString('base64url');
  }
}

/** The public half of an identity, SPKI in PEM. */
export const publicPem = (key: KeyObject): string =>
  createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

/** SHA-256 over the SPKI of a public key, base64url. */
export function keyFingerprint(publicKey: string): string {
  const der = createPublicKey(publicKey).export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('base64url');
}

const controllerText = (keys: LinkKeys): Buffer =>
  Buffer.from(`stowage-link-v2 controller ${keys.agent} ${keys.controller}`);

const agentText = (keys: LinkKeys, controllerKey: string): Buffer =>
  Buffer.from(`stowage-link-v2 agent ${keys.agent} ${keys.controller} ${keyFingerprint(controllerKey)}`);

export const signAsController = (key: KeyObject, keys: LinkKeys): string =>
  sign(null, controllerText(keys), key).toString('base64');

export const signAsAgent = (key: KeyObject, keys: LinkKeys, controllerKey: string): string =>
  sign(null, agentText(keys, controllerKey), key).toString('base64');

export const isSignedByController = (publicKey: string, keys: LinkKeys, signature: string): boolean =>
  isSigned(publicKey, () => controllerText(keys), signature);

export const isSignedByAgent = (
  publicKey: string,
  keys: LinkKeys,
  controllerKey: string,
  signature: string,
): boolean => isSigned(publicKey, () => agentText(keys, controllerKey), signature);

/** False, too, for keys and signatures that are none. */
function isSigned(publicKey: string, text: () => Buffer, signature: string): boolean {
  try {
    const key = createPublicKey(publicKey);
    return key.asymmetricKeyType === 'ed25519' && verify(null, text(), key, Buffer.from(signature, 'base64'));
  } catch {
    return false;
  }
}
