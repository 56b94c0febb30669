import { type FileHandle, open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import type { ChunkDigests } from '../../shared/transfer/chunks.ts';
import { DIGEST_BYTES } from '../../shared/transfer/chunks.ts';
import { writeFully } from '../host/files.ts';

/** In the place of a digest: the chunk is not on record any more. */
const REVOKED = Buffer.alloc(DIGEST_BYTES);
const RECORD = 4 + DIGEST_BYTES + 4;

/**
 * The record of finished chunks: append-only, `u32 index | digest | u32 crc32`. It is not synced itself: a chunk is
 * noted after its data is durable, so that losing the end of the journal only sends some chunks again.
 */
export class ChunkJournal implements AsyncDisposable {
  readonly #file: FileHandle;
  #end: number;

  private constructor(file: FileHandle, end: number) {
    this.#file = file;
    this.#end = end;
  }

  /** Opens or begins a journal and notes in `digests` what it holds; a torn record at the end is cut off. */
  static async open(path: string, digests: ChunkDigests): Promise<ChunkJournal> {
    const file = await open(path, 'a+', 0o600);
    const bytes = await file.readFile();
    let end = 0;
    for (; end + RECORD <= bytes.length; end += RECORD) {
      const record = bytes.subarray(end, end + RECORD);
      const index = record.readUInt32LE(0);
      if (
        crc32(record.subarray(0, RECORD - 4)) !== record.readUInt32LE(RECORD - 4) ||
        index >= digests.map.count
      )
        break;
      const digest = record.subarray(4, 4 + DIGEST_BYTES);
      if (digest.equals(REVOKED)) digests.unset(index);
      else digests.set(index, digest);
    }
    await file.close();
    const writable = await open(path, 'r+');
    await writable.truncate(end);
    return new ChunkJournal(writable, end);
  }

  /** Takes a chunk off the record, durably: what is written over it next may never be finished. */
  async revoke(index: number): Promise<void> {
    await this.append([{ index, digest: REVOKED }]);
    await this.#file.datasync();
  }

  async append(records: { index: number; digest: Buffer }[]): Promise<void> {
    const bytes = Buffer.alloc(records.length * RECORD);
    records.forEach(({ index, digest }, position) => {
      const record = bytes.subarray(position * RECORD, (position + 1) * RECORD);
      record.writeUInt32LE(index, 0);
      digest.copy(record, 4);
      record.writeUInt32LE(crc32(record.subarray(0, RECORD - 4)), RECORD - 4);
    });
    const at = this.#end;
    this.#end += bytes.length;
    await writeFully(this.#file, bytes, at);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
