import { randomFill } from 'node:crypto';
import { promisify } from 'node:util';
import type { WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Extent, Image } from '../images/image.ts';

/** What one pass of a wipe writes: the same bytes again and again, or random ones. */
type Pass = readonly number[] | 'random';

const bytes = (...values: number[]): Pass[] => values.map((value) => [value]);
const randoms = (count: number): Pass[] => Array.from({ length: count }, () => 'random' as const);

/** Gutmann's patterns between the random passes: those of three bytes are shifted by one each time. */
const GUTMANN: readonly Pass[] = [
  ...bytes(0x55, 0xaa),
  [0x92, 0x49, 0x24],
  [0x49, 0x24, 0x92],
  [0x24, 0x92, 0x49],
  ...bytes(0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff),
  [0x92, 0x49, 0x24],
  [0x49, 0x24, 0x92],
  [0x24, 0x92, 0x49],
  [0x6d, 0xb6, 0xdb],
  [0xb6, 0xdb, 0x6d],
  [0xdb, 0x6d, 0xb6],
];

/** The passes of each algorithm of libvirt, which are those of scrub(1). */
const PASSES = {
  zero: bytes(0x00),
  nnsa: [...randoms(2), ...bytes(0x00)],
  dod: ['random', ...bytes(0x00, 0xff)],
  bsi: bytes(0xff, 0xfe, 0xfd, 0xfb, 0xf7, 0xef, 0xdf, 0xbf, 0x7f),
  gutmann: [...randoms(4), ...GUTMANN, ...randoms(4)],
  schneier: [...bytes(0x00, 0xff), ...randoms(5)],
  pfitzner7: randoms(7),
  pfitzner33: randoms(33),
  random: randoms(1),
} as const satisfies Record<Exclude<WipeAlgorithm, 'trim'>, readonly Pass[]>;

const fill = promisify(randomFill) as unknown as (buffer: Buffer) => Promise<Buffer>;

/** Throws `not-supported` where the blocks of an image cannot be freed. */
export function refuseTrim(image: Image): void {
  if (!image.canFree?.())
    throw new StowageError('not-supported', 'this storage cannot free the blocks of a volume; use zero');
}

/**
 * Overwrites all data of an image in place, durably; holes, which hold nothing, stay holes. Throws `not-supported`, before
 * anything is lost, where `trim` cannot free blocks.
 */
export async function overwrite(image: Image, algorithm: WipeAlgorithm, signal?: AbortSignal): Promise<void> {
  if (algorithm === 'trim') {
    refuseTrim(image);
    await image.zero(0, image.sizeBytes);
    await image.flush();
    return;
  }
  signal?.throwIfAborted();
  // Gathered first: what is written meanwhile is data, and would be found again.
  const extents: Extent[] = [];
  for await (const extent of image.extents(0, image.sizeBytes)) extents.push(extent);
  for (const pass of PASSES[algorithm]) {
    await writePass(image, extents, pass, signal);
    // A pass that is still in a cache would be overwritten there by the next one.
    await image.flush();
  }
}

/**
 * Overwrites data with zeros, from a byte on and at most so many, durably; holes stay holes. Gives where the next part begins: the size of
 * the image when all is done.
 */
export async function overwritePart(image: Image, from: number, mostBytes: number): Promise<number> {
  const extents: Extent[] = [];
  let left = mostBytes;
  let end = image.sizeBytes;
  for await (const extent of image.extents(from, image.sizeBytes)) {
    const length = Math.min(extent.length, left);
    extents.push({ offset: extent.offset, length });
    left -= length;
    if (left > 0) continue;
    end = extent.offset + length;
    break;
  }
  await writePass(image, extents, [0], undefined);
  await image.flush();
  return end;
}

async function writePass(
  image: Image,
  extents: readonly Extent[],
  pass: Pass,
  signal: AbortSignal | undefined,
): Promise<void> {
  // A whole number of every pattern.
  const buffer = Buffer.alloc(3 << 18);
  if (pass !== 'random') buffer.fill(Buffer.from(pass));
  for (const { offset, length } of extents)
    for (let done = 0; done < length; done += buffer.length) {
      signal?.throwIfAborted();
      if (pass === 'random') await fill(buffer);
      await image.write(buffer.subarray(0, Math.min(buffer.length, length - done)), offset + done);
    }
}
