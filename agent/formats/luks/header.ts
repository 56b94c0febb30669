import { StowageError } from '../../../shared/util/errors.ts';

const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');
const VERSION = 1;
export const LUKS_HEADER_BYTES = 592;
const SLOTS = 8;
const SLOT_ACTIVE = 0x00ac71f3;
/** LUKS counts in these, whatever the disk has. */
export const SECTOR = 512;
/** As much as the headers of qemu and cryptsetup take at most. */
export const MOST_HEADER_BYTES = 2 << 20;
/** A header that asks for more rounds, of all its slots together, is refused: a lying one would keep the host busy for hours. */
const MOST_ITERATIONS = 60_000_000;

/** One place in which the master key lies, locked by a passphrase. */
export interface KeySlot {
  iterations: number;
  salt: Buffer;
  offset: number;
  /** Into how many parts the key was split, so that it can be destroyed. */
  stripes: number;
}

/** What a LUKS header of version 1 says, as qemu and cryptsetup write it. Offsets are bytes. */
export interface LuksHeader {
  cipher: string;
  mode: string;
  hash: string;
  /** Where the encrypted content begins. */
  payloadOffset: number;
  keyBytes: number;
  masterKey: { digest: Buffer; salt: Buffer; iterations: number };
  /** Those that are in use. */
  slots: KeySlot[];
}

/** Whether an image begins as LUKS of version 1 does, the one that qemu knows. */
export function isLuks(head: Buffer): boolean {
  return head.length >= 8 && head.subarray(0, 6).equals(MAGIC) && head.readUInt16BE(6) === VERSION;
}

function refuse(why: string): never {
  throw new StowageError('invalid-image', `not a usable LUKS header: ${why}`);
}

const text = (head: Buffer, at: number): string => head.toString('latin1', at, at + 32).replace(/\0.*$/s, '');

function iterationsAt(head: Buffer, at: number): number {
  const iterations = head.readUInt32BE(at);
  if (iterations === 0 || iterations > MOST_ITERATIONS) refuse(`${iterations} iterations are out of range`);
  return iterations;
}

/** Reads a header, big-endian. Throws `invalid-image` for what is not sound. */
export function parseLuksHeader(head: Buffer): LuksHeader {
  if (head.length < LUKS_HEADER_BYTES || !isLuks(head)) refuse('it is none, or too short');
  const keyBytes = head.readUInt32BE(108);
  // XTS has two keys, each of 128 or of 256 bits.
  if (keyBytes !== 32 && keyBytes !== 64) refuse(`a key of ${keyBytes} bytes is not of AES in XTS mode`);
  const slots: KeySlot[] = [];
  for (let index = 0; index < SLOTS; index++) {
    const at = 208 + index * 48;
    if (head.readUInt32BE(at) !== SLOT_ACTIVE) continue;
    const stripes = head.readUInt32BE(at + 44);
    if (stripes === 0 || stripes > 8000) refuse(`${stripes} stripes are out of range`);
    slots.push({
      iterations: iterationsAt(head, at + 4),
      salt: head.subarray(at + 8, at + 40),
      offset: head.readUInt32BE(at + 40) * SECTOR,
      stripes,
    });
  }
  const masterIterations = iterationsAt(head, 164);
  const total = slots.reduce((sum, { iterations }) => sum + iterations + masterIterations, 0);
  if (total > MOST_ITERATIONS) refuse(`${total} iterations are out of range`);
  return {
    cipher: text(head, 8),
    mode: text(head, 40),
    hash: text(head, 72),
    payloadOffset: head.readUInt32BE(104) * SECTOR,
    keyBytes,
    masterKey: {
      digest: head.subarray(112, 132),
      salt: head.subarray(132, 164),
      iterations: masterIterations,
    },
    slots,
  };
}

interface Readable {
  read(buffer: Uint8Array, offset: number): Promise<void>;
}

/** The header that begins at an offset of an image. */
export async function readLuksHeader(image: Readable, offset = 0): Promise<LuksHeader> {
  const head = Buffer.alloc(LUKS_HEADER_BYTES);
  await image.read(head, offset);
  return parseLuksHeader(head);
}
