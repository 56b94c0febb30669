import type { Qcow2Header } from '../../../shared/formats/qcow2/header.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Image } from '../../images/image.ts';

/** One internal snapshot, as the image's own table has it. */
export interface Qcow2Snapshot {
  id: string;
  name: string;
  /** Of the guest's memory. */
  stateBytes: number;
  /** Its own first table. */
  l1Offset: number;
  l1Entries: number;
  /** Of the disk; undefined in old images, of which every snapshot has the capacity of the image. */
  capacityBytes?: number;
  /** When it was taken: s and ns since the epoch. */
  takenAt: string;
}

const FIXED_BYTES = 40;
/** qemu allows 65,536 snapshots, of at most 1 KiB more than their strings. */
const MOST_SNAPSHOTS = 65_536;
const MOST_TABLE_BYTES = 64 << 20;
const PIECE_BYTES = 64 << 10;
/** The strings of an entry are 64 KiB each at most, and what qemu may add to it 1 KiB. */
const MOST_ENTRY_BYTES = FIXED_BYTES + 1024 + 2 * 65_536;

/**
 * The snapshots of an image, in the order of its table. Reads what qemu may be changing, and takes no lock. Throws
 * `invalid-image` for a table that is not sound.
 */
export async function readSnapshots(
  image: Pick<Image, 'read'>,
  { snapshotCount, snapshotsOffset }: Qcow2Header,
): Promise<Qcow2Snapshot[]> {
  if (snapshotCount > MOST_SNAPSHOTS) refuse(`${snapshotCount} snapshots are too many`);
  const snapshots: Qcow2Snapshot[] = [];
  let [piece, start] = [Buffer.alloc(0), 0];
  const at = async (offset: number, length: number): Promise<Buffer> => {
    if (offset < start || offset + length > start + piece.length) {
      // What lies behind the end reads as zeros, and is no entry.
      piece = Buffer.alloc(Math.max(PIECE_BYTES, length));
      start = offset;
      await image.read(piece, start);
    }
    return piece.subarray(offset - start, offset - start + length);
  };
  let offset = snapshotsOffset;
  for (let index = 0; index < snapshotCount; index++) {
    const fixed = await at(offset, FIXED_BYTES);
    const [idBytes, nameBytes, extraBytes] = [
      fixed.readUInt16BE(12),
      fixed.readUInt16BE(14),
      fixed.readUInt32BE(36),
    ];
    if (fixed.readBigUInt64BE(0) === 0n) refuse('its table of snapshots is not sound');
    const smallState = fixed.readUInt32BE(32);
    const length = FIXED_BYTES + extraBytes + idBytes + nameBytes;
    if (length > MOST_ENTRY_BYTES) refuse('an entry of its table of snapshots is too long');
    const entry = await at(offset, length);
    const id = FIXED_BYTES + extraBytes;
    snapshots.push({
      id: entry.toString('utf8', id, id + idBytes),
      name: entry.toString('utf8', id + idBytes, id + idBytes + nameBytes),
      stateBytes: extraBytes >= 8 ? Number(entry.readBigUInt64BE(FIXED_BYTES)) : smallState,
      l1Offset: Number(fixed.readBigUInt64BE(0)),
      l1Entries: fixed.readUInt32BE(8),
      capacityBytes: extraBytes >= 16 ? Number(entry.readBigUInt64BE(FIXED_BYTES + 8)) : undefined,
      takenAt: `${fixed.readUInt32BE(16)}.${fixed.readUInt32BE(20)}`,
    });
    offset += Math.ceil(length / 8) * 8;
    if (offset - snapshotsOffset > MOST_TABLE_BYTES) refuse('its table of snapshots is too large');
  }
  return snapshots;
}

function refuse(why: string): never {
  throw new StowageError('invalid-image', `not a usable qcow2 image: ${why}`);
}
