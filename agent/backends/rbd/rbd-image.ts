import { StowageError } from '../../../shared/util/errors.ts';
import { textAt } from '../../host/native.ts';
import type { Extent, Image } from '../../images/image.ts';
import { arrayOf, cell, ceph, checked, differences, isAbsent } from './librbd.ts';

/** Of so much of an image the extents are asked for at once. */
const WINDOW = 4 * 2 ** 30;
const FAST_DIFF = 1n << 4n;
const FAST_DIFF_INVALID = 1n << 1n;
const INFO_BYTES = 168;
const ID_BYTES = 256;
const MOST_ZEROED = 256 << 20;
const THICK = 1;

/** One open image of Ceph, or a snapshot of one. */
export class RbdImage implements Image {
  readonly #handle: bigint;
  readonly sizeBytes: number;
  readonly #onClose: () => Promise<void>;
  static readonly #open = new Set<RbdImage>();
  readonly #io: bigint;
  readonly #running = new Set<Promise<unknown>>();
  #isClosed = false;

  private constructor(io: bigint, handle: bigint, sizeBytes: number, onClose: () => Promise<void>) {
    this.#io = io;
    RbdImage.#open.add(this);
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
    this.#onClose = onClose;
  }

  /** Throws `volume-not-found`. `onClose` runs when it is closed. */
  static async open(
    io: bigint,
    name: string,
    mode: 'read' | 'write',
    snapshot: string | null = null,
    onClose: () => Promise<void> = async () => undefined,
  ): Promise<RbdImage> {
    const handle = cell();
    const open = mode === 'read' ? ceph().openReadOnly : ceph().open;
    checked(await open(io, name, handle.buffer, snapshot), `opening the image '${name}'`);
    try {
      const info = Buffer.alloc(INFO_BYTES);
      checked(await ceph().stat(handle.value, info, info.length), `the size of '${name}'`);
      return new RbdImage(io, handle.value, Number(info.readBigUInt64LE()), onClose);
    } catch (error) {
      await ceph().close(handle.value);
      throw error;
    }
  }

  /** Closes all images of a connection that is about to end. */
  static async closeAll(io: bigint): Promise<void> {
    for (const image of [...RbdImage.#open]) if (image.#io === io) await image.close();
  }

  get #opened(): bigint {
    if (this.#isClosed) throw new StowageError('pool-inactive', 'the image was closed');
    return this.#handle;
  }

  #tracked<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    const over = (): void => void this.#running.delete(work);
    work.then(over, over);
    return work;
  }

  #call<A extends unknown[], R>(call: (handle: bigint, ...args: A) => Promise<R>, ...args: A): Promise<R> {
    return this.#tracked(call(this.#opened, ...args));
  }

  // ---- facts ----

  /** The same under every name, and never used again. */
  async id(): Promise<string> {
    const text = Buffer.alloc(ID_BYTES);
    checked(await this.#call(ceph().id, text, text.length), 'the id of an image');
    return text.toString('latin1').replace(/\0.*/s, '');
  }

  /** When it was written to last, as far as its writers tell. */
  async modified(): Promise<string> {
    const time = Buffer.alloc(16);
    checked(await this.#call(ceph().modified, time), 'the time of the last change');
    return `${time.readBigInt64LE(0)}.${time.readBigInt64LE(8)}`;
  }

  /** Clients that have it open for writing, this one among them where it does. */
  async watchers(): Promise<number> {
    const found = await arrayOf(
      'listing who has an image open',
      24,
      (entries, count) => this.#call(ceph().watchers, entries, count),
      () => 1,
      (entries, count) => ceph().freeWatchers(entries, count),
    );
    return found.length;
  }

  /** Snapshots, oldest first. */
  async snapshots(): Promise<{ name: string }[]> {
    for (let room = 64; ; room *= 4) {
      const [entries, count] = [Buffer.alloc(room * 24), Buffer.alloc(4)];
      count.writeInt32LE(room);
      const found = await this.#call(ceph().listSnapshots, entries, count);
      // ERANGE
      if (found === -34) continue;
      checked(found, 'listing snapshots');
      const names = Array.from({ length: found }, (_, index) => ({ name: textAt(entries, index * 24 + 16) }));
      if (found > 0) ceph().freeSnapshots(entries);
      return names;
    }
  }

  /** The image that it was cloned of. */
  async parent(): Promise<string | undefined> {
    const [parent, snapshot] = [Buffer.alloc(48), Buffer.alloc(24)];
    const result = await this.#call(ceph().parent, parent, snapshot);
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
    const [text, length] = [Buffer.alloc(ID_BYTES), cell()];
    length.buffer.writeBigUInt64LE(BigInt(text.length));
    const result = await this.#call(ceph().getMetadata, key, text, length.buffer);
    if (isAbsent(result)) return undefined;
    checked(result, `reading ${key} of an image`);
    return text.toString('utf8').replace(/\0.*/s, '');
  }

  /** What it takes, where the cluster keeps count of that; else its size. */
  async allocationBytes(): Promise<number> {
    const [features, flags] = [cell(), cell()];
    checked(await this.#call(ceph().features, features.buffer), 'the features of an image');
    checked(await this.#call(ceph().flags, flags.buffer), 'the flags of an image');
    if ((features.value & FAST_DIFF) === 0n || (flags.value & FAST_DIFF_INVALID) !== 0n)
      return this.sizeBytes;
    let sum = 0;
    for (const { length } of await this.#difference(null, 0, this.sizeBytes, { parent: false, whole: true }))
      sum += length;
    return sum;
  }

  /** Whether it differs from one of its snapshots. */
  async differsFrom(snapshot: string): Promise<boolean> {
    const found = await this.#difference(snapshot, 0, this.sizeBytes, { parent: false, whole: true });
    return found.length > 0;
  }

  async #difference(
    from: string | null,
    start: number,
    end: number,
    options: { parent: boolean; whole: boolean },
  ): Promise<Extent[]> {
    const found: Extent[] = [];
    await this.#tracked(
      differences(this.#opened, from, { start, end }, options, (offset, length, exists) => {
        if (exists || from !== null) found.push({ offset, length });
      }),
    );
    return found.sort((one, other) => one.offset - other.offset);
  }

  // ---- bytes ----

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    for (let start = from; start < end; start += WINDOW)
      yield* await this.#difference(null, start, Math.min(start + WINDOW, end), {
        parent: true,
        whole: false,
      });
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    const length = Math.max(0, Math.min(buffer.length, this.sizeBytes - offset));
    buffer.fill(0, length);
    if (length > 0)
      checked(await this.#call(ceph().read, offset, length, buffer, 0), `reading at byte ${offset}`);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    checked(await this.#call(ceph().write, offset, bytes.length, bytes, 0), `writing at byte ${offset}`);
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    for (let done = 0; done < length; done += MOST_ZEROED) {
      const part = Math.min(MOST_ZEROED, length - done);
      checked(
        await this.#call(ceph().writeZeroes, offset + done, part, dense ? THICK : 0, 0),
        `zeroing at byte ${offset + done}`,
      );
    }
  }

  canFree(): boolean {
    return true;
  }

  async flush(): Promise<void> {
    checked(await this.#call(ceph().flush), 'making what was written durable');
  }

  // ---- changes ----

  async resize(sizeBytes: number): Promise<void> {
    checked(await this.#call(ceph().resize, sizeBytes), 'resizing an image');
  }

  async createSnapshot(name: string): Promise<void> {
    checked(await this.#call(ceph().createSnapshot, name), `making the snapshot '${name}'`);
  }

  /** Whether clones may stand on a snapshot. */
  async isProtected(name: string): Promise<boolean> {
    const found = Buffer.alloc(4);
    checked(await this.#call(ceph().isProtected, name, found), `asking for the snapshot '${name}'`);
    return found.readInt32LE() !== 0;
  }

  async removeSnapshot(name: string): Promise<void> {
    checked(await this.#call(ceph().removeSnapshot, name), `removing the snapshot '${name}'`);
  }

  async rollback(name: string): Promise<void> {
    checked(await this.#call(ceph().rollback, name), `going back to the snapshot '${name}'`);
  }

  async setMetadata(key: string, value: string): Promise<void> {
    checked(await this.#call(ceph().setMetadata, key, value), `setting ${key} of an image`);
  }

  /** Waits for what still runs: nothing uses the handle any more. Repeatable. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    RbdImage.#open.delete(this);
    await Promise.allSettled(this.#running);
    await ceph().close(this.#handle);
    await this.#onClose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
