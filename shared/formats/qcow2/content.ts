import { createZstdDecompress, inflateRawSync } from 'node:zlib';
import type { Source, SourceExtent } from '../../transfer/source.ts';
import { StowageError } from '../../util/errors.ts';
import { Turns } from '../../util/turns.ts';
import type { Bytes } from '../bytes.ts';
import type { Qcow2Header } from './header.ts';

const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const COMPRESSED = 1n << 62n;
const ZERO = 1n;
/** Of tables of mappings, a cluster each, so much is kept. */
const MOST_TABLE_BYTES = 4 << 20;
/** The largest first table that is read: 512 MiB of it would map more than a volume may have. */
const MOST_L1_BYTES = 32 << 20;

/** Reads bytes at an offset of an encrypted image, decrypted. */
export type Decrypt = (buffer: Uint8Array, offset: number) => Promise<void>;

/** Where a run of bytes of the guest comes from. */
type Place =
  | { kind: 'data'; offset: number }
  | { kind: 'compressed'; offset: number; length: number }
  | { kind: 'zero' }
  | { kind: 'below' };

/**
 * What the guest sees of a qcow2 image, read through its own tables and, where it says nothing, from what it stands on.
 * Nothing is converted and nothing but two tables is read ahead. Offsets that an image lies about are errors.
 */
export class Qcow2Content implements Source {
  readonly sizeBytes: number;
  readonly #image: Bytes;
  readonly #header: Qcow2Header;
  readonly #l1: BigUint64Array;
  readonly #below: Source | undefined;
  readonly #decrypt: Decrypt | undefined;
  readonly #tables = new Map<bigint, Buffer>();
  readonly #clusterBytes: number;
  /** Entries of one table of the second level, each 8 bytes, or 16 with subclusters. */
  readonly #l2Entries: number;

  private constructor(
    image: Bytes,
    header: Qcow2Header,
    l1: BigUint64Array,
    below: Source | undefined,
    decrypt: Decrypt | undefined,
  ) {
    this.#decrypt = decrypt;
    this.#image = image;
    this.#header = header;
    this.#l1 = l1;
    this.#below = below;
    this.sizeBytes = header.capacityBytes;
    this.#clusterBytes = 1 << header.clusterBits;
    this.#l2Entries = this.#clusterBytes / (header.extendedL2 ? 16 : 8);
  }

  /** `below` is closed with this, `image` is not. */
  static async open(
    image: Bytes,
    header: Qcow2Header,
    below: Source | undefined,
    decrypt?: Decrypt,
  ): Promise<Qcow2Content> {
    const l1Bytes = header.l1Entries * 8;
    if (l1Bytes > MOST_L1_BYTES || header.l1Offset + l1Bytes > image.sizeBytes)
      throw new StowageError('invalid-image', 'the first table of the image lies outside of it');
    if (header.l1Offset % (1 << header.clusterBits) !== 0)
      throw new StowageError('invalid-image', 'the first table of the image does not begin with a cluster');
    const bytes = Buffer.alloc(l1Bytes);
    await image.read(bytes, header.l1Offset);
    const l1 = BigUint64Array.from({ length: header.l1Entries }, (_, index) =>
      bytes.readBigUInt64BE(index * 8),
    );
    return new Qcow2Content(image, header, l1, below, decrypt);
  }

  async #table(offset: bigint): Promise<Buffer> {
    const known = this.#tables.get(offset);
    if (known) return known;
    if (
      offset + BigInt(this.#clusterBytes) >
      BigInt(Math.ceil(this.#image.sizeBytes / this.#clusterBytes) * this.#clusterBytes)
    )
      throw new StowageError('invalid-image', 'a table of the image lies outside of it');
    const table = Buffer.alloc(this.#clusterBytes);
    await this.#image.read(table, Number(offset));
    const [oldest] = this.#tables.keys();
    const full = (this.#tables.size + 1) * this.#clusterBytes > MOST_TABLE_BYTES;
    if (full && oldest !== undefined) this.#tables.delete(oldest);
    this.#tables.set(offset, table);
    return table;
  }

  /** Where the bytes from `offset` on come from, and how many of them come from there, at most to the end of the cluster. */
  async #placeOf(offset: number): Promise<{ place: Place; length: number }> {
    const cluster = Math.floor(offset / this.#clusterBytes);
    const within = offset - cluster * this.#clusterBytes;
    const rest = Math.min(this.#clusterBytes - within, this.sizeBytes - offset);
    const l2Offset = (this.#l1[Math.floor(cluster / this.#l2Entries)] ?? 0n) & OFFSET_MASK;
    if (l2Offset === 0n) {
      // The whole table is missing: as much as it would map comes from below.
      const mapped = this.#l2Entries * this.#clusterBytes;
      return {
        place: { kind: 'below' },
        length: Math.min(mapped - (offset % mapped), this.sizeBytes - offset),
      };
    }
    const table = await this.#table(l2Offset);
    const index = cluster % this.#l2Entries;
    const entry = table.readBigUInt64BE(index * (this.#header.extendedL2 ? 16 : 8));
    if (entry & COMPRESSED) return { place: this.#compressed(entry), length: rest };
    const host = entry & OFFSET_MASK;
    if (this.#header.extendedL2) {
      const bitmap = table.readBigUInt64BE(index * 16 + 8);
      const subBytes = this.#clusterBytes / 32;
      const sub = Math.floor(within / subBytes);
      const length = Math.min(subBytes - (within % subBytes), rest);
      if (bitmap & (1n << BigInt(32 + sub))) return { place: { kind: 'zero' }, length };
      if (bitmap & (1n << BigInt(sub)))
        return { place: { kind: 'data', offset: Number(host) + within }, length };
      return { place: { kind: 'below' }, length };
    }
    if (this.#header.version === 3 && entry & ZERO) return { place: { kind: 'zero' }, length: rest };
    if (host === 0n) return { place: { kind: 'below' }, length: rest };
    return { place: { kind: 'data', offset: Number(host) + within }, length: rest };
  }

  #compressed(entry: bigint): Place {
    const bits = BigInt(62 - (this.#header.clusterBits - 8));
    const offset = entry & ((1n << bits) - 1n);
    const sectors = ((entry & ~(3n << 62n)) >> bits) + 1n;
    return {
      kind: 'compressed',
      offset: Number(offset),
      length: Number(sectors * 512n - (offset % 512n)),
    };
  }

  async #inflate({ offset, length }: { offset: number; length: number }): Promise<Buffer> {
    const packed = Buffer.alloc(length);
    await this.#image.read(packed, offset);
    try {
      const unpacked = this.#header.zstd
        ? await unpackZstd(packed, this.#clusterBytes)
        : inflateRawSync(packed, { maxOutputLength: 2 * this.#clusterBytes });
      if (unpacked.length < this.#clusterBytes) throw new Error('it is short');
      return unpacked.subarray(0, this.#clusterBytes);
    } catch (error) {
      throw new StowageError('invalid-image', `a compressed cluster at ${offset} cannot be read`, {
        cause: error,
      });
    }
  }

  async *extents(from: number, to: number): AsyncGenerator<SourceExtent> {
    const end = Math.min(to, this.sizeBytes);
    let start: number | undefined;
    const turns = new Turns();
    for (let offset = from; offset < end; ) {
      if (turns.due) await turns.next();
      const { place, length } = await this.#placeOf(offset);
      const next = Math.min(offset + length, end);
      const held = place.kind === 'data' || place.kind === 'compressed';
      if (place.kind === 'below' && this.#below) {
        if (start !== undefined) yield { offset: start, length: offset - start };
        start = undefined;
        yield* this.#below.extents(offset, Math.min(next, this.#below.sizeBytes));
      } else if (held) {
        start ??= offset;
      } else if (start !== undefined) {
        yield { offset: start, length: offset - start };
        start = undefined;
      }
      offset = next;
    }
    if (start !== undefined) yield { offset: start, length: end - start };
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      const at = offset + done;
      if (at >= this.sizeBytes) return void buffer.fill(0, done);
      const { place, length } = await this.#placeOf(at);
      const part = buffer.subarray(done, done + Math.min(length, buffer.length - done));
      await this.#readFrom(place, part, at);
      done += part.length;
    }
  }

  async #readFrom(place: Place, part: Uint8Array, at: number): Promise<void> {
    if (place.kind === 'data' && this.#decrypt) await this.#decrypt(part, place.offset);
    else if (place.kind === 'data') await this.#image.read(part, place.offset);
    else if (place.kind === 'compressed') {
      const within = at % this.#clusterBytes;
      part.set((await this.#inflate(place)).subarray(within, within + part.length));
    } else if (place.kind === 'below' && this.#below && at < this.#below.sizeBytes) {
      const there = part.subarray(0, this.#below.sizeBytes - at);
      await this.#below.read(there, at);
      part.fill(0, there.length);
    } else part.fill(0);
  }

  async close(): Promise<void> {
    await this.#below?.close();
  }
}

/** The first bytes of what is packed: what follows them in their last sector is not theirs, and is not looked at. */
async function unpackZstd(packed: Buffer, length: number): Promise<Buffer> {
  const stream = createZstdDecompress();
  const parts: Buffer[] = [];
  let got = 0;
  stream.end(packed);
  for await (const part of stream) {
    parts.push(part as Buffer);
    got += (part as Buffer).length;
    if (got >= length) break;
  }
  return Buffer.concat(parts);
}
