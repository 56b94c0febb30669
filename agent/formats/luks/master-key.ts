import { createHash, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import pLimit from 'p-limit';
import { clock, type Timer } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { decryptSectors } from './cipher.ts';
import type { KeySlot, LuksHeader } from './header.ts';

const derive = promisify(pbkdf2);
/** One at a time: each keeps a thread busy that reads and writes of files need, too. */
const alone = pLimit(1);
/** So long after it was last used a key is known: one download opens its volume several times. */
const KNOWN_MS = 30_000;
const MOST_KNOWN = 64;
/** By a digest of the header and the passphrase; no key where that opens nothing. */
const known = new Map<string, { key?: Buffer; forget: Timer }>();
const DIGEST_BYTES = 20;

function xor(target: Buffer, other: Buffer): void {
  for (let index = 0; index < target.length; index++) target[index]! ^= other[index]!;
}

/** Each piece as long as the hash, with its number in front of it, hashed. */
function diffuse(block: Buffer, hash: string): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0, number = 0; at < block.length; number++) {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(number);
    const whole = createHash(hash).update(counter);
    const size = createHash(hash).digest().length;
    const piece = block.subarray(at, at + size);
    pieces.push(whole.update(piece).digest().subarray(0, piece.length));
    at += size;
  }
  return Buffer.concat(pieces);
}

/** The key whose stripes these are: the anti-forensic splitter of LUKS, backwards. */
export function mergeStripes(stripes: Buffer, count: number, hash: string): Buffer {
  const keyBytes = stripes.length / count;
  let block: Buffer = Buffer.alloc(keyBytes);
  for (let index = 0; index < count - 1; index++) {
    xor(block, stripes.subarray(index * keyBytes, (index + 1) * keyBytes));
    block = diffuse(block, hash);
  }
  xor(block, stripes.subarray((count - 1) * keyBytes));
  return block;
}

interface Readable {
  read(buffer: Uint8Array, offset: number): Promise<void>;
}

/**
 * The key that the content is encrypted with, from the first slot that the passphrase opens. `offset` is where the header
 * begins in the image. Takes seconds, on another thread: a guess shall be expensive. The key is known for half a minute then. Throws `secret-refused` where the
 * passphrase opens none, `not-supported` for ciphers other than AES in XTS mode.
 */
export async function unlock(
  image: Readable,
  header: LuksHeader,
  passphrase: string,
  offset = 0,
): Promise<Buffer> {
  const { cipher, mode, hash, masterKey } = header;
  if (cipher !== 'aes' || mode !== 'xts-plain64' || !['sha1', 'sha256', 'sha512'].includes(hash))
    throw new StowageError(
      'not-supported',
      `what is encrypted with ${cipher}-${mode} and ${hash} cannot be read here, but with aes-xts-plain64`,
    );
  const name = nameOf(header, passphrase);
  return alone(async () => {
    const before = known.get(name);
    if (before) return remember(name, before.key);
    for (const slot of header.slots) {
      const key = await openSlot(image, header, slot, passphrase, offset);
      const digest = await derive(key, masterKey.salt, masterKey.iterations, DIGEST_BYTES, hash);
      if (timingSafeEqual(digest, masterKey.digest)) return remember(name, key);
    }
    return remember(name, undefined);
  });
}

function nameOf({ masterKey, slots }: LuksHeader, passphrase: string): string {
  const hash = createHash('sha256').update(masterKey.digest).update(masterKey.salt);
  for (const { salt, offset, iterations } of slots) hash.update(salt).update(`${offset} ${iterations} `);
  return hash.update(passphrase).digest('base64');
}

/** Throws `secret-refused` where it is known that there is no key. */
function remember(name: string, key: Buffer | undefined): Buffer {
  known.get(name)?.forget.stop();
  if (known.size >= MOST_KNOWN && !known.has(name)) known.clear();
  known.set(name, { key, forget: clock.after(KNOWN_MS, () => known.delete(name), false) });
  if (key) return key;
  throw new StowageError(
    'secret-refused',
    'the secret of the volume does not open it: it is encrypted with another one',
  );
}

async function openSlot(
  image: Readable,
  { hash, keyBytes }: LuksHeader,
  { iterations, salt, stripes, offset }: KeySlot,
  passphrase: string,
  base: number,
): Promise<Buffer> {
  const slotKey = await derive(passphrase, salt, iterations, keyBytes, hash);
  const sectors = Buffer.alloc(Math.ceil((keyBytes * stripes) / 512) * 512);
  await image.read(sectors, base + offset);
  decryptSectors(slotKey, sectors, 0);
  return mergeStripes(sectors.subarray(0, keyBytes * stripes), stripes, hash);
}
