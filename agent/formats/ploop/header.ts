import { StowageError } from '../../../shared/util/errors.ts';
import { roundUp } from '../../../shared/util/units.ts';

/** The 64-byte header of a ploop image, little-endian, followed at once by the block allocation table (BAT). */
export interface PloopHeader {
  version: 1 | 2;
  heads: number;
  cylinders: number;
  /** Cluster size in 512-byte sectors; a power of two from 64 to 131072. */
  clusterSectors: number;
  /** Number of BAT entries. */
  entries: number;
  /** Capacity in 512-byte sectors. */
  sizeSectors: number;
  /** Zero when the image was closed cleanly. */
  inUse: number;
  /** First data cluster, in sectors. */
  firstBlockSectors: number;
  flags: number;
}

export const SECTOR = 512;
export const HEADER_BYTES = 64;
export const IN_USE = 0x746f6e59;
export const FLAG_EMPTY = 1;
export const DEFAULT_CLUSTER_SECTORS = 2048;

const SIGNATURES = { 1: 'WithoutFreeSpace', 2: 'WithouFreSpacExt' } as const;
const V1_MAX_SECTORS = 2 ** 32 - 1;

export function checkClusterSectors(sectors: number): void {
  if (sectors < 64 || sectors > 131072 || (sectors & (sectors - 1)) !== 0) {
    throw new StowageError(
      'invalid-argument',
      `a ploop cluster of ${sectors} sectors is refused: it must be a power of two from 64 (32 KiB) to 131072 (64 MiB)`,
    );
  }
}

/** Entries of the largest table that is read: 256 MiB, for 64 TiB in clusters of 1 MiB. */
const MOST_ENTRIES = 64 << 20;

/** Cylinders, heads and sectors that the ploop tools write for a size. */
export function geometry(sizeSectors: number): { cylinders: number; heads: number; sectors: number } {
  if (sizeSectors > 1032192 && sizeSectors < 16777216) {
    return { cylinders: Math.floor(sizeSectors / 1008), heads: 16, sectors: 63 };
  }
  const sectors = [63, 32, 16, 8].find((candidate) => sizeSectors % candidate === 0);
  const heads = sectors && [16, 8, 4, 2].find((candidate) => (sizeSectors / sectors) % candidate === 0);
  if (!sectors || !heads) return { cylinders: sizeSectors, heads: 1, sectors: 1 };
  return { cylinders: sizeSectors / sectors / heads, heads, sectors };
}

/**
 * The header of a new, empty image. The size is rounded up to whole clusters, as the tools do.
 * Throws `invalid-argument` for a size that version 1 cannot express: the tools cut it off without a word.
 */
export function newHeader(version: 1 | 2, sizeBytes: number, clusterSectors: number): PloopHeader {
  checkClusterSectors(clusterSectors);
  const sizeSectors = roundUp(Math.ceil(sizeBytes / SECTOR), clusterSectors);
  if (sizeSectors === 0)
    throw new StowageError('invalid-argument', 'a ploop volume needs a capacity above 0');
  if (version === 1 && sizeSectors > V1_MAX_SECTORS) {
    throw new StowageError(
      'invalid-argument',
      'a version 1 ploop image must be smaller than 2 TiB; use version 2',
    );
  }
  const entries = sizeSectors / clusterSectors;
  if (entries > MOST_ENTRIES)
    throw new StowageError(
      'too-large',
      `a ploop volume with clusters of ${(clusterSectors * SECTOR) / 1024} KiB has at most ${(MOST_ENTRIES * clusterSectors * SECTOR) / 2 ** 40} TiB`,
    );
  const { heads, cylinders } = geometry(sizeSectors);
  return {
    version,
    heads,
    cylinders,
    clusterSectors,
    entries,
    sizeSectors,
    inUse: 0,
    firstBlockSectors: roundUp(HEADER_BYTES + 4 * entries, clusterSectors * SECTOR) / SECTOR,
    flags: FLAG_EMPTY,
  };
}

export function encodeHeader(header: PloopHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(SIGNATURES[header.version], 0, 'latin1');
  bytes.writeUInt32LE(2, 16);
  bytes.writeUInt32LE(header.heads, 20);
  bytes.writeUInt32LE(header.cylinders % 2 ** 32, 24);
  bytes.writeUInt32LE(header.clusterSectors, 28);
  bytes.writeUInt32LE(header.entries, 32);
  bytes.writeBigUInt64LE(BigInt(header.sizeSectors), 36);
  bytes.writeUInt32LE(header.inUse, 44);
  bytes.writeUInt32LE(header.firstBlockSectors, 48);
  bytes.writeUInt32LE(header.flags, 52);
  return bytes;
}

export function hasPloopSignature(bytes: Buffer): boolean {
  const signature = bytes.toString('latin1', 0, 16);
  return signature === SIGNATURES[1] || signature === SIGNATURES[2];
}

/** Reads and validates the first 64 bytes of an image. Throws `invalid-image` with the field that is wrong. */
export function decodeHeader(bytes: Buffer, name: string): PloopHeader {
  const refuse = (why: string): never => {
    throw new StowageError('invalid-image', `${name} is not a usable ploop image: ${why}`);
  };
  if (bytes.length < HEADER_BYTES) refuse('it is shorter than a header');
  if (!hasPloopSignature(bytes)) refuse('the signature is wrong');
  const version = bytes.toString('latin1', 0, 16) === SIGNATURES[1] ? 1 : 2;
  if (bytes.readUInt32LE(16) !== 2) refuse(`the type is ${bytes.readUInt32LE(16)}, not 2`);
  const clusterSectors = bytes.readUInt32LE(28);
  if (clusterSectors < 64 || clusterSectors > 131072 || (clusterSectors & (clusterSectors - 1)) !== 0) {
    refuse(`the cluster size of ${clusterSectors} sectors is not a power of two from 64 to 131072`);
  }
  const size = version === 1 ? BigInt(bytes.readUInt32LE(36)) : bytes.readBigUInt64LE(36);
  if (size === 0n || size >= 2n ** 44n) refuse(`the size of ${size} sectors is out of range`);
  const sizeSectors = Number(size);
  const entries = bytes.readUInt32LE(32);
  if (entries !== Math.ceil(sizeSectors / clusterSectors))
    refuse(`${entries} table entries do not fit ${sizeSectors} sectors`);
  if (entries > MOST_ENTRIES) refuse(`its table of ${entries} entries is too large`);
  const firstBlockSectors = bytes.readUInt32LE(48);
  if (firstBlockSectors % clusterSectors !== 0 || firstBlockSectors * SECTOR < HEADER_BYTES + 4 * entries) {
    refuse(`the first data block at sector ${firstBlockSectors} overlaps the table or is misaligned`);
  }
  return {
    version,
    heads: bytes.readUInt32LE(20),
    cylinders: bytes.readUInt32LE(24),
    clusterSectors,
    entries,
    sizeSectors,
    inUse: bytes.readUInt32LE(44),
    firstBlockSectors,
    flags: bytes.readUInt32LE(52),
  };
}
