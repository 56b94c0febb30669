import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { writeFully } from './files.ts';

/** What offsets and lengths must be multiples of, on any disk of today. */
const BLOCK = 4096;
const STEP = 1 << 20;

/**
 * A file that is written past the page cache where that works: bytes that nobody here will read soon are not copied into
 * it, push nothing else out of it, and are on their way to the disk at once. Blocks that are not whole, file systems
 * without O_DIRECT and buffers that are not aligned go through the page cache.
 */
export class DirectFile implements AsyncDisposable {
  /** The file as any other. */
  readonly handle: FileHandle;
  readonly #direct: FileHandle | undefined;

  private constructor(handle: FileHandle, direct: FileHandle | undefined) {
    this.handle = handle;
    this.#direct = direct;
  }

  /** Opens or makes the file for reading and writing; a link in its last component is not followed. */
  static async open(path: string, mode: number): Promise<DirectFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, mode);
    const direct = await open(path, constants.O_WRONLY | constants.O_NOFOLLOW | constants.O_DIRECT).catch(
      () => undefined,
    );
    return new DirectFile(handle, direct);
  }

  /** Durable only after the handle's datasync. */
  async write(bytes: Uint8Array, offset: number): Promise<void> {
    const whole = this.#direct && offset % BLOCK === 0 ? bytes.length - (bytes.length % BLOCK) : 0;
    const done = whole > 0 && (await this.#writeDirect(bytes.subarray(0, whole), offset)) ? whole : 0;
    for (let start = done; start < bytes.length; start += STEP)
      await writeFully(this.handle, bytes.subarray(start, start + STEP), offset + start);
  }

  async #writeDirect(bytes: Uint8Array, offset: number): Promise<boolean> {
    try {
      await writeFully(this.#direct!, bytes, offset);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EINVAL') return false;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
    await this.handle.close();
  }
}
