import { clock } from '../../../shared/util/clock.ts';
import type { Extent, Image } from '../../images/image.ts';
import { RbdImage } from './rbd-image.ts';

/** Of so much of an image the extents are asked for, and kept: a snapshot does not change, and asking takes long. */
const WINDOW = 4 * 2 ** 30;
const MOST_WINDOWS = 4;

function keptExtents(image: RbdImage): Image['extents'] {
  const windows = new Map<number, Promise<Extent[]>>();
  const windowAt = (start: number): Promise<Extent[]> => {
    const known = windows.get(start);
    if (known) return known;
    const asked = gather(image.extents(start, start + WINDOW));
    asked.catch(() => windows.delete(start));
    windows.set(start, asked);
    for (const first of windows.keys()) {
      if (windows.size <= MOST_WINDOWS) break;
      windows.delete(first);
    }
    return asked;
  };
  return async function* (from, to) {
    for (let start = from - (from % WINDOW); start < to; start += WINDOW) {
      const all = await windowAt(start);
      for (let index = firstEndingAfter(all, from); index < all.length; index++) {
        const { offset, length } = all[index]!;
        if (offset >= to) return;
        const begin = Math.max(offset, from);
        yield { offset: begin, length: Math.min(offset + length, to) - begin };
      }
    }
  };
}

/** The index of the first extent that ends after an offset, among extents in their order. */
function firstEndingAfter(extents: readonly Extent[], offset: number): number {
  let [low, high] = [0, extents.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const extent = extents[middle]!;
    if (extent.offset + extent.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Snapshots by which images are read: what is read is one state, whoever writes meanwhile, and whether somebody has written since
 * is known exactly. One that a kill left is removed by the next look at its image.
 */
export class ReadSnapshots {
  readonly #prefix: string;
  readonly #used = new Set<string>();

  /** `owner` is part of their names, so that nobody takes those of another host for leftovers. */
  constructor(owner: string) {
    this.#prefix = `.stowage.${owner}.read-`;
  }

  /** Opens an image as it is now. Closing it removes the snapshot. */
  async open(io: bigint, name: string): Promise<Image> {
    const snapshot = `${this.#prefix}${clock.uuid().slice(0, 8)}`;
    this.#used.add(snapshot);
    try {
      const head = await RbdImage.open(io, name, 'write');
      try {
        await head.createSnapshot(snapshot);
      } finally {
        await head.close();
      }
      const isChanged = async (): Promise<boolean> => {
        await using now = await RbdImage.open(io, name, 'read');
        return await now.differsFrom(snapshot);
      };
      const image = await RbdImage.open(io, name, 'read', snapshot);
      const close = async (): Promise<void> => {
        await image.close();
        await this.#remove(io, name, snapshot);
      };
      return {
        sizeBytes: image.sizeBytes,
        isChanged,
        allocationBytes: () => image.allocationBytes(),
        extents: keptExtents(image),
        read: (buffer, offset) => image.read(buffer, offset),
        write: (bytes, offset) => image.write(bytes, offset),
        zero: (...range) => image.zero(...range),
        flush: () => image.flush(),
        close,
        [Symbol.asyncDispose]: close,
      };
    } catch (error) {
      await this.#remove(io, name, snapshot).catch(() => undefined);
      throw error;
    }
  }

  async #remove(io: bigint, name: string, snapshot: string): Promise<void> {
    try {
      await using head = await RbdImage.open(io, name, 'write');
      await head.removeSnapshot(snapshot);
    } finally {
      this.#used.delete(snapshot);
    }
  }

  /** Of those that an image has, the ones that nobody reads by any more. */
  async removeLeftovers(io: bigint, name: string, snapshots: readonly { name: string }[]): Promise<void> {
    for (const snapshot of snapshots)
      if (snapshot.name.startsWith(this.#prefix) && !this.#used.has(snapshot.name))
        await this.#remove(io, name, snapshot.name).catch(() => undefined);
  }
}

async function gather(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const all: Extent[] = [];
  for await (const extent of extents) all.push(extent);
  return all;
}
