import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Chunk, ChunkDigests, ChunkMap, type Part } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { writeFully, writeZeros } from '../host/files.ts';
import { dataExtents, punchHole } from '../host/holes.ts';
import { ChunkJournal } from './journal.ts';

const STEP = 1 << 20;

/** Bytes written but not yet durable at which writers are held back. */
const MOST_UNSYNCED = 4 << 20;

interface Waiting {
  index: number;
  digest: Buffer;
  /** undefined when nothing had to be written. */
  file: FileHandle | undefined;
}

/** The files that a transfer is written to, and the journal of what is durable in them. */
export class StagedFiles implements AsyncDisposable {
  readonly digests: ChunkDigests;
  readonly map: ChunkMap;
  touchedAt = Date.now();
  readonly #files: FileHandle[];
  readonly #journal: ChunkJournal;
  #waiting: Waiting[] = [];
  #unsynced = 0;
  #syncing: Promise<void> | undefined;
  #held: (() => void)[] = [];
  #failure: Error | undefined;
  /** Writes under way, by chunk. */
  readonly #writing = new Map<number, Promise<void>>();
  /** Chunks that this process has begun to write. */
  readonly #touched = new Set<number>();

  private constructor(map: ChunkMap, digests: ChunkDigests, files: FileHandle[], journal: ChunkJournal) {
    this.map = map;
    this.digests = digests;
    this.#files = files;
    this.#journal = journal;
  }

  /**
   * Opens or begins the files below `path`: a file when the one part has no name, else a directory of parts. Chunks
   * not on record may have been half written before; they are emptied again.
   */
  static async open(path: string, journalPath: string, parts: readonly Part[]): Promise<StagedFiles> {
    const map = new ChunkMap(parts);
    const digests = new ChunkDigests(map);
    const journal = await ChunkJournal.open(journalPath, digests);
    const files: FileHandle[] = [];
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    if (parts.some((part) => part.name !== '')) await mkdir(path, { recursive: true, mode: 0o700 });
    const staged = new StagedFiles(map, digests, files, journal);
    try {
      for (const part of parts) {
        const file = await open(part.name === '' ? path : join(path, part.name), flags, 0o600);
        files.push(file);
        if (!part.dense) await file.truncate(part.sizeBytes);
      }
      await staged.#emptyUnfinished();
    } catch (error) {
      await staged[Symbol.asyncDispose]();
      throw error;
    }
    return staged;
  }

  async #emptyUnfinished(): Promise<void> {
    for (let index = 0; index < this.map.count; index++) {
      const chunk = this.map.chunk(index);
      if (this.digests.has(index) || this.map.parts[chunk.part]!.dense) continue;
      const file = this.#files[chunk.part]!;
      for (const extent of [...dataExtents(file, chunk.offset, chunk.offset + chunk.length)]) {
        if (!punchHole(file, extent.offset, extent.length))
          await writeZeros(file, extent.offset, extent.length);
      }
    }
  }

  /**
   * Settles when the chunk is written and no more than {@link MOST_UNSYNCED} bytes are not yet durable: what a kill now
   * would cost. Its record follows; {@link flush} waits for it. Throws what an earlier chunk could not be synced for.
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

  /** Settles when everything written is durable and on record. Throws when something could not be. */
  async flush(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing.values());
    await this.#syncing;
    if (this.#failure) throw this.#failure;
  }

  async #write(chunk: ReceivedChunk): Promise<void> {
    const place = this.map.chunk(chunk.index);
    const file = this.#files[place.part]!;
    // What was written here before is not what is coming: it is off the record first, and no byte of it may stay.
    const again = this.#touched.has(chunk.index) || this.digests.has(chunk.index);
    if (again) {
      await this.#syncing;
      await this.#journal.revoke(chunk.index);
      this.digests.unset(chunk.index);
    }
    this.#touched.add(chunk.index);
    // Written while it is still being hashed; it goes on record only when the digest is right.
    const [wrote] = await Promise.all([this.#writeData(file, place, chunk, again), chunk.verified]);
    if (this.#failure) throw this.#failure;
    this.#waiting.push({ index: chunk.index, digest: chunk.digest, file: wrote ? file : undefined });
    if (wrote) this.#unsynced += place.length;
    this.#syncing ??= this.#sync();
    while (this.#unsynced > MOST_UNSYNCED && this.#syncing) {
      await new Promise<void>((resolve) => this.#held.push(resolve));
    }
    if (this.#failure) throw this.#failure;
  }

  async #writeData(file: FileHandle, place: Chunk, chunk: ReceivedChunk, again: boolean): Promise<boolean> {
    const { dense } = this.map.parts[place.part]!;
    if (!chunk.data) {
      if (!dense && !again) return false;
      if (dense || !punchHole(file, place.offset, place.length))
        await writeZeros(file, place.offset, place.length);
      return true;
    }
    const ranges = dense || again ? [{ start: 0, end: place.length }] : chunk.data.ranges;
    for (const range of ranges) {
      for (let start = range.start; start < range.end; start += STEP) {
        const end = Math.min(start + STEP, range.end);
        await writeFully(file, chunk.data.bytes.subarray(start, end), place.offset + start);
      }
    }
    return true;
  }

  /** One fdatasync for all chunks that wait, then their records; what arrives meanwhile goes into the next round. */
  async #sync(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting;
        const bytes = this.#unsynced;
        this.#waiting = [];
        const files = new Set(batch.flatMap(({ file }) => (file ? [file] : [])));
        await Promise.all([...files].map((file) => file.datasync()));
        await this.#journal.append(batch);
        for (const { index, digest } of batch) this.digests.set(index, digest);
        this.touchedAt = Date.now();
        this.#unsynced -= bytes;
        for (const release of this.#held.splice(0)) release();
      }
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#syncing = undefined;
      for (const release of this.#held.splice(0)) release();
    }
  }

  /** Sizes and metadata durable too, then everything closed. */
  async finish(): Promise<void> {
    for (const file of this.#files) await file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#files) await file.close();
    await this.#journal[Symbol.asyncDispose]();
  }
}
