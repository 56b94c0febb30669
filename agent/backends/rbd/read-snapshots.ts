import { clock } from '../../../shared/util/clock.ts';
import type { Extent, Image } from '../../images/image.ts';
import type { Cluster } from './cluster.ts';
import { EXTENTS_WINDOW, RbdImage } from './rbd-image.ts';

/** The extents of so many windows are kept: a snapshot does not change, and asking takes long. */
const MOST_WINDOWS = 4;

function keptExtents(image: RbdImage): Image['extents'] {
  const windows = new Map<number, Promise<Extent[]>>();
  const windowAt = (start: number): Promise<Extent[]> => {
    const known = windows.get(start);
    if (known) return known;
    const asked = gather(image.extents(start, start + EXTENTS_WINDOW));
    asked.catch(() => windows.delete(start));
    windows.set(start, asked);
    for (const first of windows.keys()) {
      if (windows.size <= MOST_WINDOWS) break;
      windows.delete(first);
    }
    return asked;
  };
  return async function* (from, to) {
    for (let start = from - (from % EXTENTS_WINDOW); start < to; start += EXTENTS_WINDOW) {
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

/** Opens an image, by its id, as it was at a snapshot. */
export async function openSnapshot(cluster: Cluster, id: string, snapshot: string): Promise<Image> {
  const image = await RbdImage.open(cluster, id, 'read', snapshot);
  return {
    sizeBytes: image.sizeBytes,
    allocationBytes: () => image.allocationBytes(),
    extents: keptExtents(image),
    read: (buffer, offset) => image.read(buffer, offset),
    write: (bytes, offset) => image.write(bytes, offset),
    zero: (...range) => image.zero(...range),
    flush: () => image.flush(),
    close: () => image.close(),
    [Symbol.asyncDispose]: () => image.close(),
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

const READ = /^\.stowage\.[^.]*\.read-/;

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

  /** Opens an image, by its id, as it is now. Closing it removes the snapshot. */
  async open(cluster: Cluster, id: string): Promise<Image> {
    const snapshot = `${this.#prefix}${clock.uuid().slice(0, 8)}`;
    this.#used.add(snapshot);
    try {
      {
        await using head = await RbdImage.open(cluster, id, 'write');
        await head.createSnapshot(snapshot);
      }
      const image = await openSnapshot(cluster, id, snapshot);
      const close = async (): Promise<void> => {
        try {
          await image.close();
        } finally {
          await this.#remove(cluster, id, snapshot);
        }
      };
      return {
        ...image,
        async isChanged() {
          await using now = await RbdImage.open(cluster, id, 'read');
          return await now.differsFrom(snapshot);
        },
        close,
        [Symbol.asyncDispose]: close,
      };
    } catch (error) {
      await this.#remove(cluster, id, snapshot).catch(() => undefined);
      throw error;
    }
  }

  async #remove(cluster: Cluster, id: string, snapshot: string): Promise<void> {
    try {
      await using head = await RbdImage.open(cluster, id, 'write');
      await head.removeSnapshot(snapshot);
    } finally {
      this.#used.delete(snapshot);
    }
  }

  /** Of the snapshots of an image, those that nobody reads by any more. One that cannot be removed now is tried at the next look. */
  async removeLeftovers(cluster: Cluster, id: string, snapshots: readonly string[]): Promise<void> {
    for (const name of snapshots)
      if (name.startsWith(this.#prefix) && !this.#used.has(name))
        await this.#remove(cluster, id, name).catch(() => undefined);
  }

  /** One by which this or another host reads now; that of a host that is gone for good must be removed by hand. */
  readBy(snapshots: readonly string[]): string | undefined {
    return snapshots.find((name) => READ.test(name));
  }
}

async function gather(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const all: Extent[] = [];
  for await (const extent of extents) all.push(extent);
  return all;
}
