import { XMLParser } from 'fast-xml-parser';
import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { geometry } from './header.ts';

/** GUID of the top delta: constant, as the tools write it. A snapshot gives the old top a GUID of its own. */
export const TOP_GUID = '{5fbaabe3-6958-40ff-92a7-860e329aab41}';
export const NO_GUID = '{00000000-0000-0000-0000-000000000000}';
export const DESCRIPTOR = 'DiskDescriptor.xml';
export const BASE_IMAGE = 'root.hds';
/** The most deltas that one volume can have (the limit of the kernel module). */
export const MAX_DELTAS = 126;

const LIMIT_BYTES = 1 << 20;

export interface DescriptorImage {
  guid: string;
  /** `Compressed` is the ploop format, `Plain` a raw image. */
  type: 'Compressed' | 'Plain';
  /** A name inside the volume's directory. */
  file: string;
}

export interface Shot {
  guid: string;
  parentGuid: string;
  /** Deleted by its owner, kept as long as more than one child stands on it. */
  temporary: boolean;
}

/** DiskDescriptor.xml. */
export interface Descriptor {
  sizeSectors: number;
  cylinders: number;
  heads: number;
  blocksizeSectors: number;
  preallocated: boolean;
  images: DescriptorImage[];
  topGuid: string;
  shots: Shot[];
}

export function newDescriptor(
  sizeSectors: number,
  blocksizeSectors: number,
  type: DescriptorImage['type'],
  preallocated: boolean,
): Descriptor {
  const { cylinders, heads } = geometry(sizeSectors);
  return {
    sizeSectors,
    cylinders,
    heads,
    blocksizeSectors,
    preallocated,
    images: [{ guid: TOP_GUID, type, file: BASE_IMAGE }],
    topGuid: TOP_GUID,
    shots: [{ guid: TOP_GUID, parentGuid: NO_GUID, temporary: false }],
  };
}

/** The text the ploop tools write, byte for byte. */
export function formatDescriptor(descriptor: Descriptor): string {
  const { sizeSectors, cylinders, heads } = descriptor;
  const lines = [
    '<?xml version="1.0"?>',
    '<Parallels_disk_image>',
    '  <Disk_Parameters>',
    `    <Disk_size>${sizeSectors}</Disk_size>`,
    `    <Cylinders>${cylinders}</Cylinders>`,
    `    <Heads>${heads}</Heads>`,
    `    <Sectors>${Math.floor(sizeSectors / (cylinders * heads))}</Sectors>`,
    '    <Padding>0</Padding>',
    '  </Disk_Parameters>',
    '  <StorageData>',
    '    <Storage>',
    '      <Start>0</Start>',
    `      <End>${sizeSectors}</End>`,
    `      <Blocksize>${descriptor.blocksizeSectors}</Blocksize>`,
    ...(descriptor.preallocated ? ['      <Preallocated>1</Preallocated>'] : []),
    ...descriptor.images.flatMap((image) => [
      '      <Image>',
      `        <GUID>${image.guid}</GUID>`,
      `        <Type>${image.type}</Type>`,
      `        <File>${image.file}</File>`,
      '      </Image>',
    ]),
    '    </Storage>',
    '  </StorageData>',
    '  <Snapshots>',
    `    <TopGUID>${descriptor.topGuid}</TopGUID>`,
    ...descriptor.shots.flatMap((shot) => [
      '    <Shot>',
      `      <GUID>${shot.guid}</GUID>`,
      `      <ParentGUID>${shot.parentGuid}</ParentGUID>`,
      ...(shot.temporary ? ['      <Temporary/>'] : []),
      '    </Shot>',
    ]),
    '  </Snapshots>',
    '</Parallels_disk_image>',
    '',
  ];
  return lines.join('\n');
}

const count = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const guid = z.string().regex(/^\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}$/i, 'is not a GUID');
const file = z
  .string()
  .regex(/^(?!\.)[^/\0]{1,255}$/, 'must be a plain file name inside the volume')
  .refine((name) => name !== DESCRIPTOR, 'must not be the descriptor itself');

const schema = z.object({
  Parallels_disk_image: z.object({
    Disk_Parameters: z.object({ Disk_size: count, Cylinders: count, Heads: count }),
    StorageData: z.object({
      Storage: z.object({
        Blocksize: z.coerce.number().int().min(1).max(131072),
        Preallocated: z.coerce.number().optional(),
        Image: z
          .array(z.object({ GUID: guid, Type: z.enum(['Compressed', 'Plain']), File: file }))
          .min(1)
          .max(MAX_DELTAS + 2),
      }),
    }),
    Snapshots: z.object({
      TopGUID: guid,
      Shot: z.array(z.object({ GUID: guid, ParentGUID: guid, Temporary: z.string().optional() })).min(1),
    }),
  }),
});

const parser = new XMLParser({
  ignoreAttributes: true,
  parseTagValue: false,
  processEntities: false,
  isArray: (name) => name === 'Image' || name === 'Shot',
});

/**
 * Reads a DiskDescriptor.xml. Throws `invalid-image` when it is not one, when it names a file outside the volume's
 * directory, or when its snapshot tree is not a tree with the top as a leaf.
 */
export function parseDescriptor(text: string, name: string): Descriptor {
  const refuse = (why: string): never => {
    throw new StowageError('invalid-image', `${name}: ${why}`);
  };
  if (text.length > LIMIT_BYTES) refuse('larger than 1 MiB');
  if (/<!(DOCTYPE|ENTITY)/i.test(text)) refuse('a document type declaration is refused');
  let document: unknown;
  try {
    document = parser.parse(text, true);
  } catch (error) {
    refuse(error instanceof Error ? error.message : String(error));
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return refuse(`<${issue?.path.slice(1).join('/') ?? ''}> ${issue?.message ?? 'is missing'}`);
  }
  const {
    Disk_Parameters: disk,
    StorageData: storage,
    Snapshots: snapshots,
  } = parsed.data.Parallels_disk_image;
  const descriptor: Descriptor = {
    sizeSectors: disk.Disk_size,
    cylinders: disk.Cylinders,
    heads: disk.Heads,
    blocksizeSectors: storage.Storage.Blocksize,
    preallocated: storage.Storage.Preallocated === 1,
    images: storage.Storage.Image.map((image) => ({
      guid: image.GUID.toLowerCase(),
      type: image.Type,
      file: image.File,
    })),
    topGuid: snapshots.TopGUID.toLowerCase(),
    shots: snapshots.Shot.map((shot) => ({
      guid: shot.GUID.toLowerCase(),
      parentGuid: shot.ParentGUID.toLowerCase(),
      temporary: shot.Temporary !== undefined,
    })),
  };
  const unique = (values: string[]): boolean => new Set(values).size === values.length;
  if (!unique(descriptor.images.map((image) => image.guid))) refuse('an image GUID appears twice');
  if (!unique(descriptor.images.map((image) => image.file))) refuse('two images share one file');
  if (!unique(descriptor.shots.map((shot) => shot.guid))) refuse('a snapshot GUID appears twice');
  for (const shot of descriptor.shots) chainOf(descriptor, shot.guid, name);
  if (childrenOf(descriptor, descriptor.topGuid).length > 0) refuse('the top delta has children');
  return descriptor;
}

/** The images from the base up to the given snapshot. Throws `invalid-image` for a broken or circular chain. */
export function chainOf(descriptor: Descriptor, guid: string, name = DESCRIPTOR): DescriptorImage[] {
  const chain: DescriptorImage[] = [];
  for (let current = guid; current !== NO_GUID; ) {
    const image = descriptor.images.find((candidate) => candidate.guid === current);
    const shot = descriptor.shots.find((candidate) => candidate.guid === current);
    if (!image || !shot)
      throw new StowageError('invalid-image', `${name}: snapshot ${current} has no image or no parent entry`);
    if (chain.length > descriptor.images.length)
      throw new StowageError('invalid-image', `${name}: the snapshots form a circle`);
    chain.unshift(image);
    current = shot.parentGuid;
  }
  return chain;
}

export function childrenOf(descriptor: Descriptor, guid: string): Shot[] {
  return descriptor.shots.filter((shot) => shot.parentGuid === guid);
}
