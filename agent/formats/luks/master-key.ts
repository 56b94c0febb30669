import { createHash, pbkdf2, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { StowageError } from '../../../shared/util/errors.ts';
import { decryptSectors } from './cipher.ts';
import type { KeySlot, LuksHeader } from './header.ts';

const derive = promisify(pbkdf2);
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
 * begins in the image. Takes seconds, on other threads: a guess shall be expensive. Throws `secret-refused` where the
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
  for (const slot of header.slots) {
    const key = await openSlot(image, header, slot, passphrase, offset);
    const digest = await derive(key, masterKey.salt, masterKey.iterations, DIGEST_BYTES, hash);
    if (timingSafeEqual(digest, masterKey.digest)) return key;
  }
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
