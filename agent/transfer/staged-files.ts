import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type Chunk, ChunkDigests, ChunkMap, type Part } from '../../shared/transfer/chunks.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { writeFully, writeZeros } from '../host/files.ts';
import { dataExtents, punchHole } from '../host/holes.ts';
import { ChunkJournal } from './journal.ts';

const STEP = 1 << 20;

interface Waiting {
  index: number;
  digest: Buffer;
  file: FileHandle | undefined;
  settle: (error?: unknown) => void;
}

/** The files that a transfer is written to, and the journal of what is durable in them. */
export class StagedFiles implements AsyncDisposable {
  readonly digests: ChunkDigests;
  readonly map: ChunkMap;
  touchedAt = Date.now();
  readonly #files: FileHandle[];
  readonly #journal: ChunkJournal;
  #waiting: Waiting[] = [];
  #syncing = false;

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
    for (const part of parts) {
      const file = await open(part.name === '' ? path : join(path, part.name), flags, 0o600);
      files.push(file);
      if (!part.dense) await file.truncate(part.sizeBytes);
    }
    const staged = new StagedFiles(map, digests, files, journal);
    if (digests.doneCount > 0) await staged.#emptyUnfinished();
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

  /** Settles when the chunk is durable and on record. */
  async write(chunk: ReceivedChunk): Promise<void> {
    const place = this.map.chunk(chunk.index);
    const file = this.#files[place.part]!;
    const wrote = await this.#writeData(file, place, chunk);
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: unknown): void => (error === undefined ? resolve() : reject(error));
      this.#waiting.push({
        index: chunk.index,
        digest: chunk.digest,
        file: wrote ? file : undefined,
        settle,
      });
      if (!this.#syncing) void this.#sync();
    });
  }

  async #writeData(file: FileHandle, place: Chunk, chunk: ReceivedChunk): Promise<boolean> {
    const { dense } = this.map.parts[place.part]!;
    if (!chunk.data) {
      if (dense) await writeZeros(file, place.offset, place.length);
      return dense;
    }
    const ranges = dense ? [{ start: 0, end: place.length }] : chunk.data.ranges;
    for (const range of ranges) {
      for (let start = range.start; start < range.end; start += STEP) {
        const end = Math.min(start + STEP, range.end);
        await writeFully(file, chunk.data.bytes.subarray(start, end), place.offset + start);
      }
    }
    return true;
  }

  /** One fdatasync for all chunks that wait, then their records; what arrives meanwhile waits for the next round. */
  async #sync(): Promise<void> {
    this.#syncing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        const files = new Set(batch.flatMap(({ file }) => (file ? [file] : [])));
        await Promise.all([...files].map((file) => file.datasync()));
        await this.#journal.append(batch);
        for (const { index, digest } of batch) this.digests.set(index, digest);
        this.touchedAt = Date.now();
        for (const waiting of batch) waiting.settle();
      } catch (error) {
        for (const waiting of batch) waiting.settle(error);
      }
    }
    this.#syncing = false;
  }

  /** The first bytes of a part, as far as they have arrived. */
  async head(part: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    const { bytesRead } = await this.#files[part]!.read(buffer, 0, length, 0);
    return buffer.subarray(0, bytesRead);
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
