import { CHUNK_BYTES, type Chunk, ChunkDigests, type ChunkMap } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { Turns } from '../../shared/util/turns.ts';
import type { Image } from '../images/image.ts';
import { ChunkJournal } from './journal.ts';

/**
 * Bytes written but not yet durable at which writers are held back: what a crash of the host may cost. A kill of the
 * agent costs none of them.
 */
const MOST_UNSYNCED = 64 << 20;
/** Bytes written from which a round of fdatasync is worth its while. */
const SYNC_FROM = 16 << 20;

/** The images that a transfer is written to, and the journal of what has been written to them. */
export class StagedImages implements AsyncDisposable {
  readonly digests: ChunkDigests;
  readonly map: ChunkMap;
  touchedAt = clock.now();
  readonly #images: readonly Image[];
  readonly #journal: ChunkJournal;
  /** Chunks on record that may not be durable. */
  #undurable = new Set<number>();
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #held: (() => void)[] = [];
  #failure: Error | undefined;
  #failedSyncs = 0;
  /** Writes under way, by chunk. */
  readonly #writing = new Map<number, Promise<void>>();
  /** Chunks that this process has begun to write. */
  readonly #touched = new Set<number>();

  private constructor(digests: ChunkDigests, images: readonly Image[], journal: ChunkJournal) {
    this.map = digests.map;
    this.digests = digests;
    this.#images = images;
    this.#journal = journal;
  }

  get first(): Image {
    return this.#images[0]!;
  }

  /**
   * Takes up what is in the images by their journal. Chunks not on record may have been half written before; they are
   * emptied again. Chunks that a crash of the host may have lost are read and compared with their record.
   */
  static async open(images: readonly Image[], journalImage: Image, map: ChunkMap): Promise<StagedImages> {
    const digests = new ChunkDigests(map);
    const { journal, doubtful } = await ChunkJournal.open(journalImage, digests);
    const staged = new StagedImages(digests, images, journal);
    await staged.#checkDoubtful(doubtful);
    await staged.#emptyUnfinished();
    return staged;
  }

  async #checkDoubtful(chunks: number[]): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (const index of chunks) {
      const { part, offset, length } = this.map.chunk(index);
      const bytes = buffer.subarray(0, length);
      await this.#images[part]!.read(bytes, offset);
      const right = (await this.map.digestOf(bytes)).equals(this.digests.get(index)!);
      if (right) this.#undurable.add(index);
      else await this.#forget(index);
    }
  }

  async #forget(index: number): Promise<void> {
    this.digests.unset(index);
    await this.#journal.revoke(index);
  }

  async #emptyUnfinished(): Promise<void> {
    const turns = new Turns();
    for (const [part, { dense, sizeBytes }] of this.map.parts.entries()) {
      const image = this.#images[part]!;
      // There a chunk is written whole, whatever was in its place.
      if (dense || image.uninitialised) continue;
      const first = this.map.firstChunk(part);
      // What is zeroed is gathered first: a look at what is changed meanwhile may be endless.
      const doomed: { offset: number; length: number }[] = [];
      for await (const { offset, length } of image.extents(0, sizeBytes))
        for (let at = offset; at < offset + length; ) {
          await turns.next();
          const index = Math.floor(at / CHUNK_BYTES);
          const end = Math.min((index + 1) * CHUNK_BYTES, offset + length);
          if (!this.digests.has(first + index)) doomed.push({ offset: at, length: end - at });
          at = end;
        }
      for (const { offset, length } of doomed) await image.zero(offset, length);
    }
  }

  /**
   * Settles when the chunk is written and on record, and no more than {@link MOST_UNSYNCED} bytes are not yet durable.
   * Throws, once, what an earlier chunk could not be made durable for; that chunk is off the record then.
   */
  async write(chunk: ReceivedChunk): Promise<void> {
    // One writer a chunk: a connection given up may still be writing what its successor sends again.
    const before = this.#writing.get(chunk.index) ?? Promise.resolve();
    const write = before.catch(() => undefined).then(() => this.#write(chunk));
    this.#writing.set(chunk.index, write);
    try {
      await write;
    } finally {
      if (this.#writing.get(chunk.index) === write) this.#writing.delete(chunk.index);
    }
  }

  /** Settles when everything written is durable. Throws when something could not be. */
  async flush(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing.values());
    // A round under way does not cover what was written since it began.
    while (this.#syncing || this.#undurable.size > 0) {
      this.#syncing ??= this.#sync();
      await this.#syncing;
    }
    this.#throwFailure();
  }

  #throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
  }

  async #write(chunk: ReceivedChunk): Promise<void> {
    const place = this.map.chunk(chunk.index);
    const image = this.#images[place.part]!;
    // What was written here before is not what is coming: it is off the record first, and no byte of it may stay.
    const again = this.#touched.has(chunk.index) || this.digests.has(chunk.index);
    if (again) {
      await this.#syncing;
      await this.#forget(chunk.index);
    }
    this.#touched.add(chunk.index);
    // Written while it is still being hashed; it goes on record only when the digest is right.
    const failedSyncs = this.#failedSyncs;
    const [wrote, verified] = await Promise.allSettled([
      this.#writeData(image, place, chunk, again),
      chunk.verified,
    ]);
    // Both are over by now: nobody writes from the buffer when it is given back.
    if (verified.status === 'rejected') throw verified.reason;
    if (wrote.status === 'rejected') throw wrote.reason;
    await this.#journal.written(chunk.index, chunk.digest);
    // A failed fdatasync tells of every page written before it, once: this chunk may be among what was lost.
    if (failedSyncs !== this.#failedSyncs) {
      await this.#forget(chunk.index);
      this.#throwFailure();
      throw new StowageError('io-error', `chunk ${chunk.index} could not be made durable`);
    }
    this.digests.set(chunk.index, chunk.digest);
    this.touchedAt = clock.now();
    this.#undurable.add(chunk.index);
    this.#unsyncedBytes += wrote.value;
    if (this.#unsyncedBytes > SYNC_FROM) this.#syncing ??= this.#sync();
    while (this.#unsyncedBytes > MOST_UNSYNCED && this.#syncing) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    this.#throwFailure();
  }

  async #writeData(image: Image, place: Chunk, chunk: ReceivedChunk, again: boolean): Promise<number> {
    const { dense } = this.map.parts[place.part]!;
    const whole = dense || again || image.uninitialised === true;
    if (!chunk.data) {
      if (!whole) return 0;
      await image.zero(place.offset, place.length, dense);
      return place.length;
    }
    const ranges = whole ? [{ start: 0, end: place.length }] : chunk.data.ranges;
    for (const range of ranges) {
      await image.write(chunk.data.bytes.subarray(range.start, range.end), place.offset + range.start);
    }
    return place.length;
  }

  /** Rounds of fdatasync; what is written during one belongs to the next. */
  async #sync(): Promise<void> {
    try {
      do {
        const chunks = this.#undurable;
        const bytes = this.#unsyncedBytes;
        const records = this.#journal.records;
        this.#undurable = new Set();
        try {
          const parts = new Set([...chunks].map((index) => this.map.chunk(index).part));
          await Promise.all([...parts].map((part) => this.#images[part]!.flush()));
          await this.#journal.durable(records);
        } catch (error) {
          this.#failure = error instanceof Error ? error : new Error(String(error));
          this.#failedSyncs++;
          const lost = [...chunks, ...this.#undurable];
          this.#undurable.clear();
          for (const index of lost) await this.#forget(index).catch(() => undefined);
        }
        this.#unsyncedBytes -= bytes;
        for (const release of this.#held.splice(0)) release();
      } while (this.#unsyncedBytes > SYNC_FROM && !this.#failure);
    } finally {
      this.#syncing = undefined;
      for (const release of this.#held.splice(0)) release();
    }
  }

  /** Settles when nothing is being written any more. The images are closed by whoever opened them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#writing.values());
    await this.#syncing;
    await this.#journal.settled();
  }
}
