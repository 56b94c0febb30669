import { textAt } from '../../host/native.ts';
import type { NativeHandle } from '../../host/native-handle.ts';
import type { Extent, Image } from '../../images/image.ts';
import type { Cluster } from './cluster.ts';
import { type DifferenceRange, differences } from './differences.ts';
import { ceph, checked, isAbsent, isTooSmall } from './librbd.ts';
import { arrayOf, cell, textOf } from './memory.ts';

/** Of so much of an image the extents are asked for at once. */
export const EXTENTS_WINDOW = 4 * 2 ** 30;
const FAST_DIFF = 1n << 4n;
const FAST_DIFF_INVALID = 1n << 1n;
const INFO_BYTES = 168;
const METADATA_BYTES = 256;
const MOST_ZEROED = 256 << 20;
const THICK = 1;

/** One open image of Ceph, or a snapshot of one. */
export class RbdImage implements Image {
  readonly #handle: NativeHandle;
  readonly sizeBytes: number;

  private constructor(handle: NativeHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  /** By its id, which no other image ever has. Throws `volume-not-found`. */
  static async open(
    cluster: Cluster,
    id: string,
    mode: 'read' | 'write',
    snapshot: string | null = null,
  ): Promise<RbdImage> {
    const open = mode === 'read' ? ceph().openReadOnly : ceph().open;
    const handle = await cluster.open(async (io) => {
      const opened = cell();
      checked(await open(io, id, opened.buffer, snapshot), `opening the image ${id}`);
      return opened.value;
    }, ceph().close);
    try {
      const info = Buffer.alloc(INFO_BYTES);
      checked(
        await handle.use((image) => ceph().stat(image, info, info.length)),
        `the size of the image ${id}`,
      );
      return new RbdImage(handle, Number(info.readBigUInt64LE()));
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  #call<A extends unknown[]>(
    what: string,
    call: (image: bigint, ...args: A) => Promise<number>,
    ...args: A
  ): Promise<number> {
    return this.#handle.use((image) => call(image, ...args)).then((result) => checked(result, what));
  }

  // ---- facts ----

  /** When it was written to last, as far as its writers tell. */
  async modified(): Promise<string> {
    const time = Buffer.alloc(16);
    await this.#call('the time of the last change', ceph().modified, time);
    return `${time.readBigInt64LE(0)}.${time.readBigInt64LE(8)}`;
  }

  /** How many clients have it open for writing, this one among them where it does. */
  async watchers(): Promise<number> {
    const found = await arrayOf({
      what: 'listing who has an image open',
      entryBytes: 24,
      call: (entries, count) => this.#handle.use((image) => ceph().watchers(image, entries, count)),
      read: () => undefined,
      free: (entries, count) => ceph().freeWatchers(entries, count),
      countIn: 'memory',
    });
    return found.length;
  }

  /** Names of its snapshots, oldest first. */
  async snapshots(): Promise<string[]> {
    return (await this.numberedSnapshots()).map(({ name }) => name);
  }

  /** Its snapshots, oldest first, with their numbers, which are never used again. */
  numberedSnapshots(): Promise<{ name: string; number: string }[]> {
    return arrayOf({
      what: 'listing snapshots',
      entryBytes: 24,
      call: (entries, count) => this.#handle.use((image) => ceph().listSnapshots(image, entries, count)),
      read: (entries, offset) => ({
        name: textAt(entries, offset + 16),
        number: String(entries.readBigUInt64LE(offset)),
      }),
      free: (entries) => ceph().freeSnapshots(entries),
      countIn: 'answer',
    });
  }

  /** Names of the images that were cloned of one of its snapshots. */
  clones(): Promise<string[]> {
    return arrayOf({
      what: 'listing clones',
      entryBytes: 48,
      call: (entries, count) => this.#handle.use((image) => ceph().descendants(image, entries, count)),
      read: (entries, offset) => `${textAt(entries, offset + 8)}/${textAt(entries, offset + 32)}`,
      free: (entries, count) => ceph().freeDescendants(entries, count),
      countIn: 'memory',
    });
  }

  /** The image that it was cloned of. */
  async parent(): Promise<string | undefined> {
    const [parent, snapshot] = [Buffer.alloc(48), Buffer.alloc(24)];
    const result = await this.#handle.use((image) => ceph().parent(image, parent, snapshot));
    if (isAbsent(result)) return undefined;
    checked(result, 'the parent of an image');
    const [pool, namespace, image] = [8, 16, 32].map((offset) => textAt(parent, offset));
    const name = textAt(snapshot, 16);
    ceph().freeParent(parent);
    ceph().freeSnapshotSpec(snapshot);
    return `${[pool, namespace, image].filter(Boolean).join('/')}@${name}`;
  }

  /** What is kept with it under a key. */
  async metadata(key: string): Promise<string | undefined> {
    for (let room = METADATA_BYTES; ; room *= 4) {
      const [text, length] = [Buffer.alloc(room), cell()];
      length.buffer.writeBigUInt64LE(BigInt(room));
      const result = await this.#handle.use((image) => ceph().getMetadata(image, key, text, length.buffer));
      if (isTooSmall(result)) continue;
      if (isAbsent(result)) return undefined;
      checked(result, `reading ${key} of an image`);
      return textOf(text);
    }
  }

  /** What it takes, where the cluster keeps count of that; else its size. */
  async allocationBytes(): Promise<number> {
    const [features, flags] = [cell(), cell()];
    await this.#call('the features of an image', ceph().features, features.buffer);
    await this.#call('the flags of an image', ceph().flags, flags.buffer);
    if ((features.value & FAST_DIFF) === 0n || (flags.value & FAST_DIFF_INVALID) !== 0n)
      return this.sizeBytes;
    const taken = await this.#difference({ from: null, withParent: false, wholeObjects: true });
    return taken.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether it differs from one of its snapshots. */
  async differsFrom(snapshot: string): Promise<boolean> {
    const found = await this.#difference({ from: snapshot, withParent: false, wholeObjects: true });
    return found.length > 0;
  }

  #difference(
    range: Omit<DifferenceRange, 'start' | 'end'> & { start?: number; end?: number },
  ): Promise<Extent[]> {
    const whole = { start: 0, end: this.sizeBytes };
    return this.#handle.use((image) => differences(image, { ...whole, ...range }));
  }

  // ---- bytes ----

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const last = Math.min(to, this.sizeBytes);
    for (let start = from; start < last; start += EXTENTS_WINDOW) {
      const end = Math.min(start + EXTENTS_WINDOW, last);
      yield* await this.#difference({ from: null, start, end, withParent: true, wholeObjects: false });
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const wanted = Math.max(0, Math.min(buffer.length, this.sizeBytes - offset));
    const found =
      wanted === 0
        ? 0
        : await this.#call(`reading at byte ${offset}`, ceph().read, offset, wanted, buffer, 0);
    // It may have been made smaller by somebody else.
    buffer.fill(0, found);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#call(`writing at byte ${offset}`, ceph().write, offset, bytes.length, bytes, 0);
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    for (let done = 0; done < length; done += MOST_ZEROED) {
      const part = Math.min(MOST_ZEROED, length - done);
      const at = offset + done;
      await this.#call(`zeroing at byte ${at}`, ceph().writeZeroes, at, part, dense ? THICK : 0, 0);
    }
  }

  canFree(): boolean {
    return true;
  }

  async flush(): Promise<void> {
    await this.#call('making what was written durable', ceph().flush);
  }

  // ---- changes ----

  async resize(sizeBytes: number): Promise<void> {
    await this.#call('resizing an image', ceph().resize, sizeBytes);
  }

  async createSnapshot(name: string): Promise<void> {
    await this.#call(`making the snapshot '${name}'`, ceph().createSnapshot, name);
  }

  /** Whether clones may stand on a snapshot. */
  async isProtected(name: string): Promise<boolean> {
    const found = Buffer.alloc(4);
    await this.#call(`asking for the snapshot '${name}'`, ceph().isProtected, name, found);
    return found.readInt32LE() !== 0;
  }

  /** From now on clones can stand on a snapshot, and it cannot be removed. */
  async protectSnapshot(name: string): Promise<void> {
    await this.#call(`protecting the snapshot '${name}'`, ceph().protectSnapshot, name);
  }

  /** Throws `volume-in-use` while clones stand on it. */
  async unprotectSnapshot(name: string): Promise<void> {
    await this.#call(`letting go of the snapshot '${name}'`, ceph().unprotectSnapshot, name);
  }

  async removeSnapshot(name: string): Promise<void> {
    await this.#call(`removing the snapshot '${name}'`, ceph().removeSnapshot, name);
  }

  async renameSnapshot(name: string, to: string): Promise<void> {
    await this.#call(`renaming the snapshot '${name}'`, ceph().renameSnapshot, name, to);
  }

  async rollback(name: string): Promise<void> {
    await this.#call(`going back to the snapshot '${name}'`, ceph().rollback, name);
  }

  async setMetadata(key: string, value: string): Promise<void> {
    await this.#call(`setting ${key} of an image`, ceph().setMetadata, key, value);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
