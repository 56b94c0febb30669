import { constants } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { chunkBuffers } from '../../shared/transfer/chunk-buffers.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { numberOf } from '../host/devices.ts';
import { readFully, writeFully, writeZeros } from '../host/files.ts';
import { dataExtents, punchHole, zeroDevice } from '../host/holes.ts';
import type { Extent, Image } from './image.ts';

/** What offsets and lengths must be multiples of for O_DIRECT, on any disk of today. */
const BLOCK = 4096;
const STEP = 1 << 20;

export type OpenMode = 'read' | 'write' | 'create';
/** `thin`: a block device that reads as zeros where nobody wrote. */
export type FileKind = 'file' | 'block' | 'thin';

const FLAGS = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT,
} as const;

/** The size of a block device, which stat does not tell. */
async function deviceBytes(rdev: number): Promise<number> {
  const { major, minor } = numberOf(rdev);
  return Number(await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8')) * 512;
}

/**
 * A regular file or a block device. It is written past the page cache where that works: bytes that nobody here will read
 * soon are not copied into it, push nothing else out of it, and are on their way to the disk at once.
 */
export class FileImage implements Image {
  /** The file as any other. */
  readonly handle: FileHandle;
  readonly uninitialised: boolean;
  readonly #path: string;
  readonly #block: boolean;
  #direct: Promise<FileHandle | undefined> | undefined;
  #sizeBytes: number;

  private constructor(path: string, handle: FileHandle, sizeBytes: number, kind: FileKind) {
    this.#path = path;
    this.handle = handle;
    this.#sizeBytes = sizeBytes;
    this.#block = kind !== 'file';
    this.uninitialised = kind === 'block';
  }

  /**
   * Opens what is there, or with `create` makes a file (mode 0600) where nothing is. A link in the last component, and
   * anything but a regular file or, as `kind` says, a block device, is refused with `path-escapes-pool`.
   */
  static async open(path: string, mode: OpenMode, kind: FileKind = 'file'): Promise<FileImage> {
    // Device nodes of volume managers are links, made by the system and not by users of a pool.
    const follow = kind === 'file' ? constants.O_NOFOLLOW : 0;
    const handle = await open(path, FLAGS[mode] | follow | constants.O_NONBLOCK, 0o600);
    try {
      const stat = await handle.stat();
      if (kind === 'file' ? !stat.isFile() : !stat.isBlockDevice())
        throw new StowageError(
          'path-escapes-pool',
          `${path} is not a ${kind === 'file' ? 'regular file' : 'block device'}`,
        );
      const sizeBytes = kind === 'file' ? stat.size : await deviceBytes(stat.rdev);
      return new FileImage(path, handle, sizeBytes, kind);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** By its descriptor: a name that is swapped for a link after the check leads nowhere. */
  get toolPath(): string {
    return `/proc/${process.pid}/fd/${this.handle.fd}`;
  }

  async refreshSize(): Promise<void> {
    if (!this.#block) this.#sizeBytes = (await this.handle.stat()).size;
  }

  get directory(): string {
    return dirname(this.#path);
  }

  async allocationBytes(): Promise<number> {
    return this.#block ? this.#sizeBytes : (await this.handle.stat()).blocks * 512;
  }

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const end = Math.min(to, this.#sizeBytes);
    if (this.#block) {
      if (end > from) yield { offset: from, length: end - from };
    } else yield* dataExtents(this.handle, from, end);
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await readFully(this.handle, buffer, offset);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    if (this.#block && offset + bytes.length > this.#sizeBytes)
      throw new StowageError('no-space', `${this.#path} has ${this.#sizeBytes} bytes`);
    const whole = offset % BLOCK === 0 ? bytes.length - (bytes.length % BLOCK) : 0;
    const done = whole > 0 && (await this.#writeDirect(bytes.subarray(0, whole), offset)) ? whole : 0;
    for (let start = done; start < bytes.length; start += STEP)
      await writeFully(this.handle, bytes.subarray(start, start + STEP), offset + start);
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + bytes.length);
  }

  /** Block by block from aligned memory; false where the file system does not let files be written so. */
  async #writeDirect(bytes: Uint8Array, offset: number): Promise<boolean> {
    const follow = this.#block ? 0 : constants.O_NOFOLLOW;
    this.#direct ??= open(this.#path, constants.O_WRONLY | follow | constants.O_DIRECT).then(
      async (direct) => {
        // The name may lead elsewhere by now.
        const [ours, theirs] = await Promise.all([this.handle.stat(), direct.stat()]);
        if (ours.ino === theirs.ino && ours.dev === theirs.dev) return direct;
        await direct.close();
        return undefined;
      },
      () => undefined,
    );
    const direct = await this.#direct;
    if (!direct) return false;
    try {
      await writeFully(direct, bytes, offset);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    }
    // The memory was not aligned, or direct writes do not work here at all.
    const aligned = chunkBuffers.borrow();
    try {
      for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
        const part = bytes.subarray(start, start + CHUNK_BYTES);
        aligned.set(part);
        await writeFully(direct, aligned.subarray(0, part.length), offset + start);
      }
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      this.#direct = Promise.resolve(undefined);
      await direct.close();
      return false;
    } finally {
      chunkBuffers.giveBack(aligned);
    }
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    const done = this.#block
      ? await zeroDevice(this.handle, offset, length)
      : !dense && punchHole(this.handle, offset, length);
    if (!done) await writeZeros(this.handle, offset, length);
  }

  canFree(): boolean {
    // Behind the end there is nothing to free, and a file system that cannot says so all the same.
    return !this.#block && punchHole(this.handle, this.#sizeBytes, BLOCK);
  }

  /** Sizes and metadata are durable too. */
  async flush(): Promise<void> {
    await this.handle.sync();
  }

  async setSize(sizeBytes: number): Promise<void> {
    if (this.#block)
      throw new StowageError('not-supported', 'a block device has the size that its storage gives it');
    await this.handle.truncate(sizeBytes);
    this.#sizeBytes = sizeBytes;
  }

  async close(): Promise<void> {
    await (await this.#direct)?.close();
    await this.handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
