import { createHash } from 'node:crypto';
import { DIGEST_BYTES, type DigestAlgorithm, digestOf, zeroDigest } from './digest.ts';

/** The unit of hashing, journalling, resuming and sending. */
export const CHUNK_BYTES = 2 << 20;

/** One file of a transferred volume. Each part starts on a chunk boundary of the transfer's address space. */
export interface Part {
  /** File name inside the volume; empty when the volume is a single file. */
  name: string;
  sizeBytes: number;
  /** Zeros must be written out, never left as holes: what ploop images need. */
  dense: boolean;
}

/** Where a chunk lies: `length` bytes at `offset` of part `part`. */
export interface Chunk {
  index: number;
  part: number;
  offset: number;
  length: number;
}

/** The address space of a transfer: the parts one after the other, cut into chunks, and how a chunk is digested. */
export class ChunkMap {
  readonly parts: readonly Part[];
  readonly digest: DigestAlgorithm;
  readonly count: number;
  readonly #firstChunk: number[] = [];

  constructor(parts: readonly Part[], digest: DigestAlgorithm = 'gmac') {
    this.parts = parts;
    this.digest = digest;
    let chunks = 0;
    for (const part of parts) {
      this.#firstChunk.push(chunks);
      chunks += Math.ceil(part.sizeBytes / CHUNK_BYTES);
    }
    this.count = chunks;
  }

  chunk(index: number): Chunk {
    let part = this.#firstChunk.length - 1;
    while (part > 0 && this.#firstChunk[part]! > index) part--;
    const offset = (index - this.#firstChunk[part]!) * CHUNK_BYTES;
    return { index, part, offset, length: Math.min(CHUNK_BYTES, this.parts[part]!.sizeBytes - offset) };
  }

  firstChunk(part: number): number {
    return this.#firstChunk[part]!;
  }

  get digestBytes(): number {
    return DIGEST_BYTES[this.digest];
  }

  digestOf(chunk: Uint8Array<ArrayBuffer>): Promise<Buffer> {
    return digestOf(this.digest, chunk);
  }

  zeroDigest(length: number): Buffer {
    return zeroDigest(this.digest, length);
  }

  get totalBytes(): number {
    return this.parts.reduce((sum, part) => sum + part.sizeBytes, 0);
  }
}

/** Which chunks are there, each with its digest; the digest of the whole is the root over them. */
export class ChunkDigests {
  readonly map: ChunkMap;
  readonly #digests: Buffer;
  readonly #present: Uint8Array;
  #count = 0;

  constructor(map: ChunkMap) {
    this.map = map;
    this.#digests = Buffer.alloc(map.count * map.digestBytes);
    this.#present = new Uint8Array(map.count);
  }

  get doneCount(): number {
    return this.#count;
  }

  get complete(): boolean {
    return this.#count === this.map.count;
  }

  has(index: number): boolean {
    return this.#present[index] === 1;
  }

  set(index: number, digest: Buffer): void {
    digest.copy(this.#digests, index * this.map.digestBytes);
    if (!this.#present[index]) this.#count++;
    this.#present[index] = 1;
  }

  unset(index: number): void {
    if (this.#present[index]) this.#count--;
    this.#present[index] = 0;
  }

  get(index: number): Buffer | undefined {
    return this.has(index)
      ? this.#digests.subarray(index * this.map.digestBytes, (index + 1) * this.map.digestBytes)
      : undefined;
  }

  /** Bytes from the start that are there without a gap. */
  contiguousBytes(): number {
    let bytes = 0;
    for (let index = 0; index < this.map.count && this.has(index); index++)
      bytes += this.map.chunk(index).length;
    return bytes;
  }

  doneBytes(): number {
    let bytes = 0;
    for (let index = 0; index < this.map.count; index++)
      if (this.has(index)) bytes += this.map.chunk(index).length;
    return bytes;
  }

  /** SHA-256 over the sizes of the parts and the chunk digests in order, as hex. Only when complete. */
  root(): string {
    const hash = createHash('sha256');
    for (const part of this.map.parts) hash.update(`${part.name}\0${part.sizeBytes}\0`);
    return hash.update(this.#digests).digest('hex');
  }

  /** For the wire: one byte a chunk whether it is there, then all digests. */
  serialise(): Buffer {
    return Buffer.concat([this.#present, this.#digests]);
  }

  static parse(map: ChunkMap, bytes: Buffer): ChunkDigests {
    const digests = new ChunkDigests(map);
    for (let index = 0; index < map.count; index++) {
      const start = map.count + index * map.digestBytes;
      if (bytes[index] === 1) digests.set(index, bytes.subarray(start, start + map.digestBytes));
    }
    return digests;
  }
}
