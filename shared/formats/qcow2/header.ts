import { StowageError } from '../../util/errors.ts';
import type { Bytes } from '../bytes.ts';

const MAGIC = 0x514649fb;
const INCOMPATIBLE = {
  dirty: 1n,
  corrupt: 1n << 1n,
  dataFile: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
};
const KNOWN = 0x1fn;
const LAZY_REFCOUNTS = 1n;
const BACKING_FORMAT = 0xe2792aca;
const ENCRYPTION_HEADER = 0x0537be77;
/** How the field of the header says that an extension tells of the encryption. */
const CRYPT_LUKS = 2;
/** More than this a header is not read: names of backing files end within the first cluster, at the most 2 MiB. */
const HEAD_BYTES = 4096;
const LONG_HEAD_BYTES = 64 << 10;

export interface Qcow2Header {
  version: 2 | 3;
  capacityBytes: number;
  clusterBits: number;
  backingStore: { path: string; format?: string } | undefined;
  snapshotCount: number;
  snapshotsOffset: number;
  externalData: boolean;
  corrupt: boolean;
  encrypted: boolean;
  /** Where its LUKS header is. */
  luksOffset: number | undefined;
  /** Compressed clusters hold zstd, not deflate. */
  zstd: boolean;
  extendedL2: boolean;
  lazyRefcounts: boolean;
  l1Offset: number;
  l1Entries: number;
}

export function isQcow2(head: Buffer): boolean {
  return head.length >= 4 && head.readUInt32BE(0) === MAGIC;
}

function refuse(why: string): never {
  throw new StowageError('invalid-image', `not a usable qcow2 image: ${why}`);
}

/** What an extension holds, of those between the header and the name of the backing file. */
function extension(head: Buffer, wanted: number, start: number, end: number): Buffer | undefined {
  for (let at = start; at + 8 <= end; ) {
    const [type, length] = [head.readUInt32BE(at), head.readUInt32BE(at + 4)];
    if (type === 0 || at + 8 + length > end) return undefined;
    if (type === wanted) return head.subarray(at + 8, at + 8 + length);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

function luksOffsetIn(content: Buffer | undefined): number | undefined {
  if (!content || content.length < 16) return refuse('it does not say where its LUKS header is');
  const offset = content.readBigUInt64BE(0);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) refuse('its LUKS header lies outside of it');
  return Number(offset);
}

type Mapping = Pick<Qcow2Header, 'clusterBits' | 'extendedL2' | 'l1Entries'>;

/** What a first table maps. One entry of it stands for a cluster full of entries of the second level. */
export const mappedBytes = ({ clusterBits, extendedL2, l1Entries }: Mapping): number =>
  l1Entries * 2 ** clusterBits * (2 ** clusterBits / (extendedL2 ? 16 : 8));

/** Throws `invalid-image` where a first table does not map all of a disk. */
export function refuseSmallTable(of: Mapping & Pick<Qcow2Header, 'capacityBytes'>): void {
  if (of.capacityBytes > Number.MAX_SAFE_INTEGER)
    refuse(`a capacity of ${of.capacityBytes} bytes is out of range`);
  if (mappedBytes(of) < of.capacityBytes) refuse('its first table is too small for its capacity');
}

/** Reads a qcow2 header, big-endian. Throws `invalid-image` for what is not sound, or lies beyond `head`. */
export function parseQcow2Header(head: Buffer): Qcow2Header {
  if (head.length < 72 || !isQcow2(head)) refuse('the magic number is wrong');
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) return refuse(`version ${version} is unknown`);
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) refuse(`clusters of 2^${clusterBits} bytes are not allowed`);
  const capacity = head.readBigUInt64BE(24);
  if (capacity > BigInt(Number.MAX_SAFE_INTEGER)) refuse(`a capacity of ${capacity} bytes is out of range`);
  const backingOffset = Number(head.readBigUInt64BE(8));
  const backingLength = head.readUInt32BE(16);
  if (backingOffset !== 0 && (backingLength > 1023 || backingOffset + backingLength > head.length))
    refuse('the backing file name lies outside the header');
  const long = version === 3 && head.length >= 104;
  const incompatible = long ? head.readBigUInt64BE(72) : 0n;
  if (incompatible & ~KNOWN)
    refuse(`it needs features that are unknown here (0x${incompatible.toString(16)})`);
  const extendedL2 = (incompatible & INCOMPATIBLE.extendedL2) !== 0n;
  const l1Entries = head.readUInt32BE(36);
  const capacityBytes = Number(capacity);
  refuseSmallTable({ clusterBits, extendedL2, l1Entries, capacityBytes });
  const headerBytes = long ? head.readUInt32BE(100) : 72;
  const extensionsEnd = backingOffset === 0 ? Math.min(head.length, 1 << clusterBits) : backingOffset;
  const extensionAt = (wanted: number) => extension(head, wanted, headerBytes, extensionsEnd);
  const crypt = head.readUInt32BE(32);
  return {
    version,
    capacityBytes,
    clusterBits,
    backingStore:
      backingOffset === 0
        ? undefined
        : {
            path: head.toString('utf8', backingOffset, backingOffset + backingLength),
            format: extensionAt(BACKING_FORMAT)?.toString('latin1'),
          },
    snapshotCount: head.readUInt32BE(60),
    snapshotsOffset: Number(head.readBigUInt64BE(64)),
    externalData: (incompatible & INCOMPATIBLE.dataFile) !== 0n,
    corrupt: (incompatible & INCOMPATIBLE.corrupt) !== 0n,
    encrypted: crypt !== 0,
    luksOffset: crypt === CRYPT_LUKS ? luksOffsetIn(extensionAt(ENCRYPTION_HEADER)) : undefined,
    zstd: (incompatible & INCOMPATIBLE.compression) !== 0n && headerBytes > 104 && head[104] === 1,
    extendedL2,
    lazyRefcounts: long && (head.readBigUInt64BE(80) & LAZY_REFCOUNTS) !== 0n,
    l1Offset: Number(head.readBigUInt64BE(40)),
    l1Entries,
  };
}

/** How much of an image's beginning its header takes, as far as that can be told from its first bytes. */
export function qcow2HeadBytes(head: Buffer): number {
  if (!isQcow2(head) || head.length < 24) return 0;
  return Math.min(Number(head.readBigUInt64BE(8)) + head.readUInt32BE(16), LONG_HEAD_BYTES);
}

/** The header of an open image. */
export async function readQcow2Header(image: Bytes): Promise<Qcow2Header> {
  const head = Buffer.alloc(HEAD_BYTES);
  await image.read(head, 0);
  if (qcow2HeadBytes(head) <= HEAD_BYTES)
    return parseQcow2Header(head.subarray(0, Math.min(HEAD_BYTES, image.sizeBytes)));
  const long = Buffer.alloc(LONG_HEAD_BYTES);
  await image.read(long, 0);
  return parseQcow2Header(long);
}

/** An image from outside must stand alone: a backing or data file would make us open any file of the host. */
export function refuseReferences(header: Qcow2Header): void {
  if (header.externalData)
    throw new StowageError('invalid-image', 'a qcow2 image with an external data file is refused');
  if (header.backingStore !== undefined)
    throw new StowageError(
      'invalid-image',
      `a qcow2 image with a backing file ('${header.backingStore.path.slice(0, 100)}') is refused`,
    );
}
