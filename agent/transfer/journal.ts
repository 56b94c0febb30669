import { crc32 } from 'node:zlib';
import type { ChunkDigests } from '../../shared/transfer/chunks.ts';
import type { Image } from '../images/image.ts';

const KINDS = { written: 1, revoked: 2, durable: 3 } as const;

/**
 * The record of written chunks: append-only, `u8 kind | u32 number | digest | u32 crc32`. A chunk is noted when it is
 * written, which a kill of the agent leaves true and a crash of the host may not. A mark of kind `durable` says how many
 * of the first records have their data on stable storage; what no mark covers is checked when the journal is opened
 * again, and losing it only sends some chunks again.
 */
export class ChunkJournal {
  readonly #file: Image;
  readonly #recordBytes: number;
  #records: number;
  /** Appends go one after the other: a record that stands in the file has all before it, a failed one leaves no gap. */
  #tail: Promise<void> = Promise.resolve();

  private constructor(file: Image, recordBytes: number, records: number) {
    this.#file = file;
    this.#recordBytes = recordBytes;
    this.#records = records;
  }

  /**
   * Opens or begins a journal and notes in `digests` what it holds; a torn record at the end is cut off. `doubtful` are
   * the chunks that were written but perhaps never durable.
   */
  static async open(
    file: Image,
    digests: ChunkDigests,
  ): Promise<{ journal: ChunkJournal; doubtful: number[] }> {
    const recordBytes = 1 + 4 + digests.map.digestBytes + 4;
    const bytes = Buffer.alloc(file.sizeBytes);
    await file.read(bytes, 0);
    /** By chunk, the record that notes it. */
    const noted = new Map<number, number>();
    let durable = 0;
    let records = 0;
    for (let start = 0; start + recordBytes <= bytes.length; start += recordBytes) {
      const record = bytes.subarray(start, start + recordBytes);
      if (crc32(record.subarray(0, -4)) !== record.readUInt32LE(recordBytes - 4)) break;
      const number = record.readUInt32LE(1);
      if (record[0] === KINDS.durable) {
        durable = number;
      } else if (number < digests.map.count) {
        digests.unset(number);
        if (record[0] === KINDS.written) {
          digests.set(number, record.subarray(5, -4));
          noted.set(number, records);
        }
      }
      records++;
    }
    if (file.sizeBytes > records * recordBytes) await file.setSize?.(records * recordBytes);
    const doubtful = [...noted].flatMap(([chunk, at]) =>
      at >= durable && digests.has(chunk) ? [chunk] : [],
    );
    return { journal: new ChunkJournal(file, recordBytes, records), doubtful };
  }

  /** How many records there are. */
  get records(): number {
    return this.#records;
  }

  /** The chunk has been written; its digest is right. */
  async written(chunk: number, digest: Buffer): Promise<void> {
    await this.#append('written', chunk, digest);
  }

  /** The data of the first `records` records is durable; so are those records when this settles. */
  async durable(records: number): Promise<void> {
    await this.#append('durable', records);
    await this.#file.flush();
  }

  /** Takes a chunk off the record, durably: what is written over it next may never be finished. */
  async revoke(chunk: number): Promise<void> {
    await this.#append('revoked', chunk);
    await this.#file.flush();
  }

  #append(kind: keyof typeof KINDS, number: number, digest?: Buffer): Promise<void> {
    const record = Buffer.alloc(this.#recordBytes);
    record[0] = KINDS[kind];
    record.writeUInt32LE(number, 1);
    digest?.copy(record, 5);
    record.writeUInt32LE(crc32(record.subarray(0, -4)), this.#recordBytes - 4);
    const append = this.#tail.then(async () => {
      await this.#file.write(record, this.#records * this.#recordBytes);
      this.#records++;
    });
    this.#tail = append.catch(() => undefined);
    return append;
  }

  /** Settles when nothing is being written any more. */
  async settled(): Promise<void> {
    await this.#tail;
  }
}
