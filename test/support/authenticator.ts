import { createHash, createSign, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';

const sha256 = (data: string | Buffer): Buffer => createHash('sha256').update(data).digest();
const base64url = (data: string | Buffer): string => Buffer.from(data).toString('base64url');

/** The few things of CBOR that an attestation is made of. */
function cbor(value: unknown): Buffer {
  const head = (type: number, count: number): Buffer =>
    count < 24
      ? Buffer.of((type << 5) | count)
      : count < 256
        ? Buffer.of((type << 5) | 24, count)
        : Buffer.of((type << 5) | 25, count >> 8, count & 255);
  if (typeof value === 'number') return value >= 0 ? head(0, value) : head(1, -1 - value);
  if (Buffer.isBuffer(value)) return Buffer.concat([head(2, value.length), value]);
  if (typeof value === 'string') return Buffer.concat([head(3, value.length), Buffer.from(value)]);
  const entries = [...(value as Map<unknown, unknown>)];
  return Buffer.concat([head(5, entries.length), ...entries.flat().map(cbor)]);
}

const PRESENT = 1;
const VERIFIED = 4;
const HAS_KEY = 64;

interface Asked {
  options: { challenge: string; rp?: { id: string }; rpId?: string; user?: { id: string } };
  state: string;
}

/** What it does otherwise than it should. */
interface Lie {
  origin?: string;
  rpId?: string;
  isUnverified?: boolean;
  userHandle?: string;
  id?: string;
}

/** A passkey in software (ES256), as a browser answers for it. */
export class Authenticator {
  readonly id = base64url(randomBytes(16));
  counter = 0;
  readonly #origin: string;
  readonly #key: KeyObject;
  readonly #point: Buffer[];
  #user = '';

  constructor(origin: string) {
    this.#origin = origin;
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
    this.#key = privateKey;
    this.#point = [x, y].map((part) => Buffer.from(part, 'base64url'));
  }

  #data(rpId: string, flags: number, { isUnverified }: Lie): Buffer {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(this.counter);
    const verified = isUnverified ? 0 : VERIFIED;
    return Buffer.concat([sha256(rpId), Buffer.of(flags | PRESENT | verified), counter]);
  }

  #client(type: string, challenge: string, { origin = this.#origin }: Lie): Buffer {
    return Buffer.from(JSON.stringify({ type, challenge, origin, crossOrigin: false }));
  }

  #answer(response: object, { id = this.id }: Lie) {
    return { id, rawId: id, type: 'public-key', clientExtensionResults: {}, response };
  }

  register({ options, state }: Asked, lie: Lie = {}) {
    const id = Buffer.from(this.id, 'base64url');
    const key = new Map<number, unknown>([
      [1, 2],
      [3, -7],
      [-1, 1],
      [-2, this.#point[0]],
      [-3, this.#point[1]],
    ]);
    const data = Buffer.concat([
      this.#data(lie.rpId ?? options.rp!.id, HAS_KEY, lie),
      Buffer.alloc(16),
      Buffer.of(0, id.length),
      id,
      cbor(key),
    ]);
    this.#user = options.user!.id;
    const attestation = new Map<string, unknown>([
      ['fmt', 'none'],
      ['attStmt', new Map()],
      ['authData', data],
    ]);
    const response = {
      clientDataJSON: base64url(this.#client('webauthn.create', options.challenge, lie)),
      attestationObject: base64url(cbor(attestation)),
      transports: ['internal'],
    };
    return { state, response: this.#answer(response, lie) };
  }

  sign({ options, state }: Asked, lie: Lie = {}) {
    this.counter++;
    const data = this.#data(lie.rpId ?? options.rpId!, 0, lie);
    const client = this.#client('webauthn.get', options.challenge, lie);
    const signature = createSign('sha256')
      .update(Buffer.concat([data, sha256(client)]))
      .sign(this.#key);
    const response = {
      clientDataJSON: base64url(client),
      authenticatorData: base64url(data),
      signature: base64url(signature),
      userHandle: lie.userHandle ?? this.#user,
    };
    return { state, response: this.#answer(response, lie) };
  }
}
