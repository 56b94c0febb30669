import type { Layout } from '../../shared/protocol/agent.ts';
import { CHUNK_BYTES, ChunkDigests, ChunkMap } from '../../shared/transfer/chunks.ts';
import type { ChunkSink } from '../../shared/transfer/pull.ts';
import type { ReceivedChunk } from '../../shared/transfer/receive.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { PartialFile } from './partial-file.ts';

const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** The one image of a volume, written into a file as its chunks come, in any order; what was there before is used again. */
export class DownloadSink implements ChunkSink, AsyncDisposable {
  readonly digests: ChunkDigests;
  readonly etag: string;
  readonly #file: PartialFile;
  readonly #part: number;
  /** Chunks before this one were in the file when it was opened. */
  readonly #resumed: number;

  private constructor(layout: Layout, part: number, file: PartialFile) {
    this.digests = new ChunkDigests(new ChunkMap(layout.parts));
    this.etag = layout.etag;
    this.#part = part;
    this.#file = file;
    this.#resumed = file.chunks;
  }

  /** Throws `volume-has-snapshots` for a volume that is no single image. */
  static async open(path: string, as: string, layout: Layout): Promise<DownloadSink> {
    const images = layout.parts.filter((part) => part.dense || part.name === '');
    const [image] = images;
    if (!image || images.length > 1)
      throw new StowageError(
        'volume-has-snapshots',
        "can't download volume, all existing snapshots will be lost; use --as content, or delete the snapshots",
      );
    const { volumeId, etag } = layout;
    const file = await PartialFile.open(path, { volumeId, etag, as, sizeBytes: image.sizeBytes });
    const sink = new DownloadSink(layout, layout.parts.indexOf(image), file);
    await sink.#readResumed();
    return sink;
  }

  /** What was noted as there is read again, not trusted: its digest decides whether it is fetched anew. */
  async #readResumed(): Promise<void> {
    const { map } = this.digests;
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (let index = 0; index < this.#resumed; index++) {
      const { part, offset, length } = map.chunk(index);
      if (part !== this.#part) continue;
      const bytes = buffer.subarray(0, length);
      await this.#file.read(bytes, offset);
      const isZero = bytes.equals(ZEROS.subarray(0, length));
      this.digests.set(index, isZero ? map.zeroDigest(length) : await map.digestOf(bytes));
    }
  }

  get sizeBytes(): number {
    return this.digests.map.parts[this.#part]!.sizeBytes;
  }

  /** How many chunks are there, from the first on. */
  get chunks(): number {
    return this.#file.chunks;
  }

  async write(chunk: ReceivedChunk): Promise<void> {
    await chunk.verified;
    const { index, data, digest } = chunk;
    const { part, offset, length } = this.digests.map.chunk(index);
    if (part === this.#part) {
      // Elsewhere the file reads as zeros already.
      if (index < this.#resumed) await this.#file.write(ZEROS.subarray(0, length), offset);
      for (const { start, end } of data?.ranges ?? [])
        await this.#file.write(data!.bytes.subarray(start, end), offset + start);
    }
    this.digests.set(index, digest);
    let { chunks } = this.#file;
    while (chunks < this.digests.map.count && this.digests.has(chunks)) chunks++;
    this.#file.reached(chunks);
  }

  /** Gives the whole file its name. */
  finish(force: boolean | undefined): Promise<void> {
    return this.#file.finish(force);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file[Symbol.asyncDispose]();
  }
}
