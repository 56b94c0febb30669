import { clock } from '../../../shared/util/clock.ts';
import type { Image } from '../../images/image.ts';
import { RbdImage } from './rbd-image.ts';

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
        extents: (from, to) => image.extents(from, to),
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
