import { inflateSync } from 'node:zlib';
import type { Source, SourceExtent } from '../../transfer/source.ts';
import { StowageError } from '../../util/errors.ts';
import { Turns } from '../../util/turns.ts';
import type { Bytes } from '../bytes.ts';
import { refuseOthers } from './descriptor.ts';
import { readVmdkHeader, SECTOR, type VmdkHeader } from './header.ts';

/** Of parts of the directory and of tables of grains so many are kept. */
const MOST_PARTS = 1024;
/** The directory is read by parts of so many bytes. */
const DIRECTORY_PART_BYTES = 4096;
/** The largest directory that is read: with the smallest grains it maps 8 TiB. */
const MOST_DIRECTORY_BYTES = 128 << 20;
/** Before a packed grain: its first sector, and its length. */
const MARKER_BYTES = 12;
/** An entry that stands for zeros, where the header says so. */
const ZEROED = 1;

/**
 * What the guest sees of a vmdk image in one file, sparse or packed, read through its own tables. Offsets that an image lies about are
 * errors.
 */
export class VmdkContent implements Source {
  readonly sizeBytes: number;
  readonly #image: Bytes;
  readonly #header: VmdkHeader;
  readonly #directoryOffset: number;
  #lastGrain: { at: number; bytes: Buffer } | undefined;
  /** By where they lie. */
  readonly #parts = new Map<number, Buffer>();

  private constructor(image: Bytes, header: VmdkHeader & { directoryOffset: number }) {
    this.#image = image;
    this.#header = header;
    this.#directoryOffset = header.directoryOffset;
    this.sizeBytes = header.capacityBytes;
  }

  /** `image` is not closed with this. Throws `invalid-image`, also for an image that is not alone. */
  static async open(image: Bytes): Promise<VmdkContent> {
    const header = await readVmdkHeader(image);
    await refuseOthers(image, header);
    const { capacityBytes, grainBytes, tableEntries, directoryOffset } = header;
    const entries = Math.ceil(capacityBytes / (grainBytes * tableEntries));
    if (entries * 4 > MOST_DIRECTORY_BYTES || directoryOffset + entries * 4 > image.sizeBytes)
      throw new StowageError('invalid-image', 'the directory of the image lies outside of it');
    return new VmdkContent(image, header);
  }

  async #part(offset: number, length: number): Promise<Buffer> {
    const known = this.#parts.get(offset);
    if (known?.length === length) return known;
    const part = Buffer.alloc(length);
    await this.#image.read(part, offset);
    const [oldest] = this.#parts.keys();
    if (this.#parts.size >= MOST_PARTS && oldest !== undefined) this.#parts.delete(oldest);
    this.#parts.set(offset, part);
    return part;
  }

  /** In which sector the table of an index lies; 0: there is none, and all of it is zeros. */
  async #tableSector(index: number): Promise<number> {
    const at = index * 4;
    const within = at % DIRECTORY_PART_BYTES;
    const offset = this.#directoryOffset + at - within;
    // What lies behind the directory, where it ends within a part, is read and not used.
    const part = await this.#part(offset, Math.min(DIRECTORY_PART_BYTES, this.#image.sizeBytes - offset));
    return part.readUInt32LE(within);
  }

  async #table(sector: number): Promise<Buffer> {
    const length = this.#header.tableEntries * 4;
    if (sector * SECTOR + length > this.#image.sizeBytes)
      throw new StowageError('invalid-image', 'a table of the image lies outside of it');
    return this.#part(sector * SECTOR, length);
  }

  /** Where in the image the grain of an offset lies, undefined where it is zeros; and up to where that is so. */
  async #placeOf(offset: number): Promise<{ at: number | undefined; end: number }> {
    const { grainBytes, tableEntries, hasZeroedGrains } = this.#header;
    const grain = Math.floor(offset / grainBytes);
    const index = Math.floor(grain / tableEntries);
    const sector = await this.#tableSector(index);
    if (sector === 0)
      return { at: undefined, end: Math.min((index + 1) * tableEntries * grainBytes, this.sizeBytes) };
    const table = await this.#table(sector);
    const first = grain % tableEntries;
    const isZero = (each: number): boolean => {
      const entry = table.readUInt32LE(each * 4);
      return entry === 0 || (entry === ZEROED && hasZeroedGrains);
    };
    const endOf = (each: number): number =>
      Math.min((index * tableEntries + each + 1) * grainBytes, this.sizeBytes);
    if (!isZero(first)) return { at: table.readUInt32LE(first * 4) * SECTOR, end: endOf(first) };
    let last = first;
    while (last + 1 < tableEntries && isZero(last + 1)) last++;
    return { at: undefined, end: endOf(last) };
  }

  async *extents(from: number, to: number): AsyncGenerator<SourceExtent> {
    const end = Math.min(to, this.sizeBytes);
    let start: number | undefined;
    const turns = new Turns();
    let grains = 0;
    for (let offset = from; offset < end; ) {
      if (turns.due) await turns.next();
      const place = await this.#placeOf(offset);
      if (place.at !== undefined) this.#refuseGrain(place.at, ++grains);
      if (place.at !== undefined) start ??= offset;
      else if (start !== undefined) {
        yield { offset: start, length: offset - start };
        start = undefined;
      }
      offset = Math.min(place.end, end);
    }
    if (start !== undefined) yield { offset: start, length: end - start };
  }

  /** No two grains lie at one place: an image that says so would be told to hold far more than it has bytes. */
  #refuseGrain(at: number, grains: number): void {
    const { compressed, grainBytes } = this.#header;
    const { sizeBytes } = this.#image;
    if (at >= sizeBytes) throw new StowageError('invalid-image', 'a grain of the image lies outside of it');
    if ((grains - 1) * (compressed ? SECTOR : grainBytes) > sizeBytes)
      throw new StowageError(
        'invalid-image',
        'the image says that it holds more grains than it has room for',
      );
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      const from = offset + done;
      if (from >= this.sizeBytes) return void buffer.fill(0, done);
      const { at, end } = await this.#placeOf(from);
      const part = buffer.subarray(done, done + Math.min(end - from, buffer.length - done));
      if (at === undefined) part.fill(0);
      else await this.#readGrain(at, part, from % this.#header.grainBytes);
      done += part.length;
    }
  }

  async #readGrain(at: number, part: Uint8Array, within: number): Promise<void> {
    if (this.#header.compressed) part.set((await this.#grain(at)).subarray(within, within + part.length));
    else if (at + within + part.length > this.#image.sizeBytes)
      throw new StowageError('invalid-image', 'a grain of the image lies outside of it');
    else await this.#image.read(part, at + within);
  }

  /** Unpacked once for reads that follow each other: a grain may be larger than what is read at a time. */
  async #grain(at: number): Promise<Buffer> {
    if (this.#lastGrain?.at !== at) this.#lastGrain = { at, bytes: await this.#unpacked(at) };
    return this.#lastGrain.bytes;
  }

  /** A whole grain: the last of a disk that ends within it may be short, and ends with zeros then. */
  async #unpacked(at: number): Promise<Buffer> {
    const { grainBytes } = this.#header;
    const marker = Buffer.alloc(MARKER_BYTES);
    if (at + MARKER_BYTES > this.#image.sizeBytes)
      throw new StowageError('invalid-image', 'a grain of the image lies outside of it');
    await this.#image.read(marker, at);
    const length = marker.readUInt32LE(8);
    if (length > 2 * grainBytes || at + MARKER_BYTES + length > this.#image.sizeBytes)
      throw new StowageError('invalid-image', `a packed grain at ${at} is longer than it can be`);
    const packed = Buffer.alloc(length);
    await this.#image.read(packed, at + MARKER_BYTES);
    try {
      const grain = inflateSync(packed, { maxOutputLength: grainBytes });
      return grain.length === grainBytes ? grain : Buffer.concat([grain], grainBytes);
    } catch (error) {
      throw new StowageError('invalid-image', `a packed grain at ${at} cannot be read`, { cause: error });
    }
  }

  async close(): Promise<void> {}
}
