import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { StowageError } from '../../../shared/util/errors.ts';
import { openRegular, readFully, writeFully, writeZeros } from '../../host/files.ts';
import type { DescriptorImage } from './descriptor.ts';
import {
  decodeHeader,
  encodeHeader,
  FLAG_EMPTY,
  HEADER_BYTES,
  IN_USE,
  newHeader,
  type PloopHeader,
  SECTOR,
} from './header.ts';

/** One delta of a volume, open: clusters of guest data by index, wherever in the file they lie. */
export interface Delta extends AsyncDisposable {
  readonly path: string;
  readonly file: FileHandle;
  readonly clusterBytes: number;
  readonly sizeBytes: number;
  /** Where the cluster starts in the file; undefined when this delta does not hold it. */
  clusterOffset(index: number): number | undefined;
  /** Marks the image as in use, durably, before the first change. */
  begin(): Promise<void>;
  /** Writes one whole cluster. It becomes part of the image with {@link commit}. */
  writeCluster(index: number, data: Uint8Array): Promise<void>;
  /** Data first, then the table, then the clean mark: at each moment the image on disk is whole. */
  commit(): Promise<void>;
  /** Durable growth to `sizeBytes` (a cluster multiple); data is moved out of the way of the larger table. */
  grow(sizeBytes: number): Promise<void>;
}

/** A raw base image: the cluster size comes from the descriptor. */
export class RawDelta implements Delta {
  readonly path: string;
  readonly file: FileHandle;
  readonly clusterBytes: number;
  sizeBytes: number;

  constructor(path: string, file: FileHandle, clusterBytes: number, sizeBytes: number) {
    this.path = path;
    this.file = file;
    this.clusterBytes = clusterBytes;
    this.sizeBytes = sizeBytes;
  }

  clusterOffset(index: number): number | undefined {
    const offset = index * this.clusterBytes;
    return offset < this.sizeBytes ? offset : undefined;
  }

  async begin(): Promise<void> {}

  async writeCluster(index: number, data: Uint8Array): Promise<void> {
    await writeFully(
      this.file,
      data.subarray(0, this.sizeBytes - index * this.clusterBytes),
      index * this.clusterBytes,
    );
  }

  async commit(): Promise<void> {
    await this.file.sync();
  }

  async grow(sizeBytes: number): Promise<void> {
    await writeZeros(this.file, this.sizeBytes, sizeBytes - this.sizeBytes);
    await this.file.sync();
    this.sizeBytes = sizeBytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
  }
}

/** An image in the ploop format ("expanded"): header, table, then clusters in the order they were first written. */
export class ExpandedDelta implements Delta {
  readonly path: string;
  readonly file: FileHandle;
  header: PloopHeader;
  /** The table as stored: entry in sectors (version 1) or clusters (version 2), 0 for none. */
  bat: Uint32Array;
  /** Next free cluster in the file. */
  #end: number;
  #dirty: { from: number; to: number } | undefined;

  constructor(path: string, file: FileHandle, header: PloopHeader, bat: Uint32Array, fileBytes: number) {
    this.path = path;
    this.file = file;
    this.header = header;
    this.bat = bat;
    this.#end = Math.max(
      Math.ceil(fileBytes / this.clusterBytes),
      header.firstBlockSectors / header.clusterSectors,
    );
  }

  get clusterBytes(): number {
    return this.header.clusterSectors * SECTOR;
  }

  get sizeBytes(): number {
    return this.header.sizeSectors * SECTOR;
  }

  /** Factor between a table entry and a cluster number of the file. */
  get entryUnit(): number {
    return this.header.version === 1 ? this.header.clusterSectors : 1;
  }

  clusterOffset(index: number): number | undefined {
    const entry = this.bat[index];
    if (!entry) return undefined;
    return (entry / this.entryUnit) * this.clusterBytes;
  }

  async begin(): Promise<void> {
    this.header.inUse = IN_USE;
    await this.#writeHeader();
    await this.file.sync();
  }

  async writeCluster(index: number, data: Uint8Array): Promise<void> {
    const existing = this.clusterOffset(index);
    if (existing !== undefined) return writeFully(this.file, data, existing);
    const cluster = this.#end;
    if (cluster * this.entryUnit > 0xffffffff)
      throw new StowageError('no-space', `${this.path}: the image cannot address more data`);
    await writeFully(this.file, data, cluster * this.clusterBytes);
    this.#end++;
    this.setEntry(index, cluster * this.entryUnit);
  }

  /** Changes a table entry in memory; {@link commit} writes it. */
  setEntry(index: number, value: number): void {
    this.bat[index] = value;
    const dirty = this.#dirty;
    this.#dirty = {
      from: Math.min(dirty?.from ?? index, index),
      to: Math.max(dirty?.to ?? index + 1, index + 1),
    };
  }

  async commit(): Promise<void> {
    await this.file.datasync();
    await this.#writeTable();
    await this.file.datasync();
    this.header.inUse = 0;
    if (this.bat.some((entry) => entry !== 0)) this.header.flags &= ~FLAG_EMPTY;
    await this.#writeHeader();
    await this.file.sync();
  }

  /** Each step is durable before the next, so that a crash leaves either size, never a wrong cluster. */
  async grow(sizeBytes: number): Promise<void> {
    const { header, clusterBytes } = this;
    const grown = newHeader(header.version, sizeBytes, header.clusterSectors);
    await this.begin();
    const oldFirst = header.firstBlockSectors / header.clusterSectors;
    const newFirst = grown.firstBlockSectors / header.clusterSectors;
    const oldTableEnd = HEADER_BYTES + 4 * header.entries;
    // 1. copy the clusters in the way to the end of the file; 2. point the table at the copies
    const buffer = Buffer.alloc(clusterBytes);
    this.#end = Math.max(this.#end, newFirst);
    await this.#fillTo(newFirst);
    for (let index = 0; index < this.bat.length; index++) {
      const entry = this.bat[index]!;
      const cluster = entry / this.entryUnit;
      if (entry === 0 || cluster >= newFirst) continue;
      await readFully(this.file, buffer, cluster * clusterBytes);
      await writeFully(this.file, buffer, this.#end * clusterBytes);
      this.setEntry(index, this.#end * this.entryUnit);
      this.#end++;
    }
    await this.file.datasync();
    await this.#writeTable();
    await this.file.datasync();
    // 3. what becomes table must read as zeros; 4. only then the header says so
    const end = newFirst * clusterBytes;
    await writeZeros(this.file, oldTableEnd, Math.max(oldFirst * clusterBytes, end) - oldTableEnd);
    await this.file.datasync();
    const bat = new Uint32Array(grown.entries);
    bat.set(this.bat);
    this.bat = bat;
    // The tool keeps the flags: an image that was empty still says so.
    this.header = { ...grown, flags: header.flags, inUse: IN_USE };
    await this.#writeHeader();
    await this.file.datasync();
    this.header.inUse = 0;
    await this.#writeHeader();
    await this.file.sync();
  }

  /** Makes the file reach `cluster` with zeros that are really written. */
  async #fillTo(cluster: number): Promise<void> {
    const size = (await this.file.stat()).size;
    if (size < cluster * this.clusterBytes)
      await writeZeros(this.file, size, cluster * this.clusterBytes - size);
  }

  async #writeHeader(): Promise<void> {
    await writeFully(this.file, encodeHeader(this.header), 0);
  }

  async #writeTable(): Promise<void> {
    if (!this.#dirty) return;
    const { from, to } = this.#dirty;
    const bytes = Buffer.from(this.bat.buffer, this.bat.byteOffset + from * 4, (to - from) * 4);
    await writeFully(this.file, bytes, HEADER_BYTES + from * 4);
    this.#dirty = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.file.close();
  }
}

/** The header of an image in the ploop format. Throws `invalid-image` unless it is sound, and its table whole. */
async function readHeader(file: FileHandle, path: string): Promise<{ header: PloopHeader; size: number }> {
  const head = Buffer.alloc(HEADER_BYTES);
  await readFully(file, head, 0);
  const header = decodeHeader(head, path);
  const { size } = await file.stat();
  if (size < HEADER_BYTES + 4 * header.entries)
    throw new StowageError('invalid-image', `${path} is not a usable ploop image: it ends inside its table`);
  return { header, size };
}

/** As {@link readHeader}, of an image that is not open. Costs the same whatever its size. */
export async function headerAt(path: string): Promise<PloopHeader> {
  await using file = await openRegular(path, 'r');
  return (await readHeader(file, path)).header;
}

/** Opens an image in the ploop format; the header must be sound, the table is read as it is. */
export async function openExpanded(path: string, mode: 'r' | 'r+'): Promise<ExpandedDelta> {
  const file = await openRegular(path, mode);
  try {
    const { header, size } = await readHeader(file, path);
    const bytes = new Uint8Array(4 * header.entries);
    await readFully(file, bytes, HEADER_BYTES);
    return new ExpandedDelta(path, file, header, new Uint32Array(bytes.buffer), size);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Opens a delta as its descriptor describes it. */
export async function openDelta(
  directory: string,
  image: DescriptorImage,
  clusterBytes: number,
  mode: 'r' | 'r+',
): Promise<Delta> {
  const path = `${directory}/${image.file}`;
  if (image.type === 'Compressed') return openExpanded(path, mode);
  const file = await openRegular(path, mode);
  return new RawDelta(path, file, clusterBytes, (await file.stat()).size);
}

export interface NewImage {
  version: 1 | 2;
  sizeBytes: number;
  clusterSectors: number;
  /** Give each cluster its place, filled with zeros, at once. */
  preallocated?: boolean;
}

/** Writes a new image file (which must not exist): all of it real data, no holes, durable when this returns. */
export async function createExpanded(path: string, image: NewImage, mode = 0o600): Promise<ExpandedDelta> {
  const header = newHeader(image.version, image.sizeBytes, image.clusterSectors);
  const file = await open(
    path,
    constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    mode,
  );
  try {
    const bat = new Uint32Array(header.entries);
    const first = header.firstBlockSectors / header.clusterSectors;
    if (image.preallocated)
      for (let index = 0; index < bat.length; index++)
        bat[index] = (first + index) * (header.version === 1 ? header.clusterSectors : 1);
    const headBytes = header.firstBlockSectors * SECTOR;
    const fileBytes = headBytes + (image.preallocated ? header.entries * header.clusterSectors * SECTOR : 0);
    await writeZeros(file, 0, fileBytes);
    if (image.preallocated) await writeFully(file, Buffer.from(bat.buffer), HEADER_BYTES);
    await writeFully(file, encodeHeader(header), 0);
    await file.sync();
    return new ExpandedDelta(path, file, header, bat, fileBytes);
  } catch (error) {
    await file.close();
    throw error;
  }
}

export async function createRaw(
  path: string,
  sizeBytes: number,
  clusterBytes: number,
  mode = 0o600,
): Promise<RawDelta> {
  const file = await open(
    path,
    constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    mode,
  );
  try {
    await writeZeros(file, 0, sizeBytes);
    await file.sync();
    return new RawDelta(path, file, clusterBytes, sizeBytes);
  } catch (error) {
    await file.close();
    throw error;
  }
}
