import { StowageError } from '../../util/errors.ts';
import type { Bytes } from '../bytes.ts';

const MAGIC = 'KDMV';
export const SECTOR = 512;
/** Of the header alone. */
export const HEADER_BYTES = 512;
const ZEROED_GRAINS = 1 << 2;
const COMPRESSED = 1 << 16;
const MARKERS = 1 << 17;
/** The directory is told by a second header, at the end of the image. */
const AT_END = 0xffff_ffff_ffff_ffffn;
/** From the end of the image: that header, and the marker that ends it. */
const FOOTER_BYTES = 2 * SECTOR;
/** What the header says of a descriptor is not believed beyond this. */
const MOST_DESCRIPTOR_BYTES = 1 << 20;
const MOST_GRAIN_BYTES = 16 << 20;
/** As many entries has each table of grains. */
const ENTRIES = 512;
const DEFLATE = 1;

/** What the header of a sparse extent says, in bytes. */
export interface VmdkHeader {
  capacityBytes: number;
  /** The unit of mapping. */
  grainBytes: number;
  /** Entries of a table of grains. */
  tableEntries: number;
  /** Where the directory of tables lies; undefined: the header at the end of the image says it. */
  directoryOffset: number | undefined;
  descriptor: { offset: number; length: number };
  /** An entry of 1 stands for zeros. */
  hasZeroedGrains: boolean;
  /** Each grain is packed, and begins with its length. */
  compressed: boolean;
}

export const isVmdk = (head: Buffer): boolean => head.toString('latin1', 0, 4) === MAGIC;

/** A file that only tells of a disk, whose data is in other files. */
export const isVmdkDescription = (head: Buffer): boolean =>
  head.toString('latin1', 0, 21) === '# Disk DescriptorFile';

export const invalid = (what: string): StowageError => new StowageError('invalid-image', what);

/** Throws `invalid-image` for what is no image that stands in one file, `not-supported` for what nobody reads here. */
export function parseVmdkHeader(head: Buffer): VmdkHeader {
  if (isVmdkDescription(head))
    throw invalid('it is only the description of a disk, whose data is in other files');
  if (head.length < HEADER_BYTES || !isVmdk(head)) throw invalid('it is not a vmdk image');
  const version = head.readUInt32LE(4);
  if (version < 1 || version > 3) throw new StowageError('not-supported', `vmdk of version ${version}`);
  // What a transfer as text would have changed.
  if (head.toString('latin1', 73, 77) !== '\n \r\n')
    throw invalid('it was changed, as by a transfer as text');
  const flags = head.readUInt32LE(8);
  const sectors = (at: number): number => {
    const value = head.readBigUInt64LE(at);
    if (value * BigInt(SECTOR) > BigInt(Number.MAX_SAFE_INTEGER))
      throw invalid('it tells sizes that nothing has');
    return Number(value) * SECTOR;
  };
  const compressed = (flags & COMPRESSED) !== 0;
  // Two fields say it: where they do not agree, other programs would read something else.
  if (compressed ? head.readUInt16LE(77) !== DEFLATE || (flags & MARKERS) === 0 : head.readUInt16LE(77) !== 0)
    throw new StowageError('not-supported', 'a vmdk image that is packed in another way than by deflate');
  const directory = head.readBigUInt64LE(56);
  const header: VmdkHeader = {
    capacityBytes: sectors(12),
    grainBytes: sectors(20),
    tableEntries: head.readUInt32LE(44),
    directoryOffset: directory === AT_END ? undefined : sectors(56),
    descriptor: { offset: sectors(28), length: sectors(36) },
    hasZeroedGrains: (flags & ZEROED_GRAINS) !== 0,
    compressed,
  };
  const { capacityBytes, grainBytes, tableEntries, descriptor } = header;
  if (capacityBytes === 0) throw invalid('its data is in other files');
  if (grainBytes < SECTOR || grainBytes > MOST_GRAIN_BYTES || (grainBytes & (grainBytes - 1)) !== 0)
    throw invalid(`it is cut into grains of ${grainBytes} bytes`);
  if (tableEntries !== ENTRIES) throw invalid(`its tables have ${tableEntries} entries`);
  if (descriptor.length > MOST_DESCRIPTOR_BYTES) throw invalid('its descriptor is too long');
  return header;
}

/** The header of an image, and where its directory lies. Throws as {@link parseVmdkHeader}. */
export async function readVmdkHeader(image: Bytes): Promise<VmdkHeader & { directoryOffset: number }> {
  const head = await readAt(image, 0, HEADER_BYTES);
  const header = parseVmdkHeader(head);
  const { directoryOffset } = header;
  if (directoryOffset !== undefined) return { ...header, directoryOffset };
  if (image.sizeBytes < 3 * SECTOR) throw invalid('it is cut off');
  const footer = parseVmdkHeader(await readAt(image, image.sizeBytes - FOOTER_BYTES, HEADER_BYTES));
  if (footer.directoryOffset === undefined) throw invalid('it says nowhere where its tables are');
  const differs = (['capacityBytes', 'grainBytes', 'compressed', 'hasZeroedGrains'] as const).find(
    (key) => footer[key] !== header[key],
  );
  if (differs) throw invalid(`its two headers do not agree (${differs})`);
  return { ...footer, descriptor: header.descriptor, directoryOffset: footer.directoryOffset };
}

export async function readAt(image: Bytes, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.max(0, Math.min(length, image.sizeBytes - offset)));
  if (bytes.length > 0) await image.read(bytes, offset);
  return bytes;
}
