import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CHUNK_BYTES, type Chunk, ChunkDigests, type ChunkMap } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { DirectFile } from '../host/direct-file.ts';
import { readFully, writeZeros } from '../host/files.ts';
import { dataExtents, punchHole } from '../host/holes.ts';
import { ChunkJournal } from './journal.ts';

/**
 * Bytes written but not yet durable at which writers are held back: what a crash of the host may cost. A kill of the
 * agent costs none of them.
 */
const MOST_UNSYNCED = 64 << 20;
/** Bytes written from which a round of fdatasync is worth its while. */
const SYNC_FROM = 16 << 20;

/** The files that a transfer is written to, and the journal of what has been written to them. */
export class StagedFiles implements AsyncDisposable {
  readonly digests: ChunkDigests;
  readonly map: ChunkMap;
  touchedAt = Date.now();
  readonly #files: DirectFile[];
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

  private constructor(digests: ChunkDigests, files: DirectFile[], journal: ChunkJournal) {
    this.map = digests.map;
    this.digests = digests;
    this.#files = files;
    this.#journal = journal;
  }

  /**
   * Opens or begins the files below `path`: a file when the one part has no name, else a directory of parts. Chunks
   * not on record may have been half written before; they are emptied again. Chunks that a crash of the host may have
   * lost are read and compared with their record.
   */
  static async open(path: string, journalPath: string, map: ChunkMap): Promise<StagedFiles> {
    const digests = new ChunkDigests(map);
    const { journal, doubtful } = await ChunkJournal.open(journalPath, digests);
    const files: DirectFile[] = [];
    if (map.parts.some((part) => part.name !== '')) await mkdir(path, { recursive: true, mode: 0o700 });
    const staged = new StagedFiles(digests, files, journal);
    try {
      for (const part of map.parts) {
        const file = await DirectFile.open(part.name === '' ? path : join(path, part.name), 0o600);
        files.push(file);
        if (!part.dense) await file.handle.truncate(part.sizeBytes);
      }
      await staged.#checkDoubtful(doubtful);
      await staged.#emptyUnfinished();
    } catch (error) {
      await staged[Symbol.asyncDispose]();
      throw error;
    }
    return staged;
  }

  async #checkDoubtful(chunks: number[]): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (const index of chunks) {
      const { part, offset, length } = this.map.chunk(index);
      const bytes = buffer.subarray(0, length);
      await readFully(this.#files[part]!.handle, bytes, offset);
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
    for (let index = 0; index < this.map.count; index++) {
      const chunk = this.map.chunk(index);
      if (this.digests.has(index) || this.map.parts[chunk.part]!.dense) continue;
      const file = this.#files[chunk.part]!.handle;
      for (const extent of [...dataExtents(file, chunk.offset, chunk.offset + chunk.length)]) {
        if (!punchHole(file, extent.offset, extent.length))
          await writeZeros(file, extent.offset, extent.length);
      }
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
    const file = this.#files[place.part]!;
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
      this.#writeData(file, place, chunk, again),
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
    this.touchedAt = Date.now();
    this.#undurable.add(chunk.index);
    this.#unsyncedBytes += wrote.value;
    if (this.#unsyncedBytes > SYNC_FROM) this.#syncing ??= this.#sync();
    while (this.#unsyncedBytes > MOST_UNSYNCED && this.#syncing) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    this.#throwFailure();
  }

  async #writeData(file: DirectFile, place: Chunk, chunk: ReceivedChunk, again: boolean): Promise<number> {
    const { dense } = this.map.parts[place.part]!;
    if (!chunk.data) {
      if (!dense && !again) return 0;
      if (dense || !punchHole(file.handle, place.offset, place.length))
        await writeZeros(file.handle, place.offset, place.length);
      return place.length;
    }
    const ranges = dense || again ? [{ start: 0, end: place.length }] : chunk.data.ranges;
    for (const range of ranges) {
      await file.write(chunk.data.bytes.subarray(range.start, range.end), place.offset + range.start);
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
          await Promise.all([...parts].map((part) => this.#files[part]!.handle.datasync()));
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

  /** Sizes and metadata durable too, then everything closed. */
  async finish(): Promise<void> {
    for (const file of this.#files) await file.handle.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#files) await file[Symbol.asyncDispose]();
    await this.#journal[Symbol.asyncDispose]();
  }
}
