import { NativeHandle } from '../../host/native-handle.ts';
import type { Extent, Image } from '../../images/image.ts';
import { gfapi, hasErrno, readStat, STAT_BYTES, type Stat } from './gfapi.ts';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;
const ENOSYS = 38;
const EOPNOTSUPP = 95;
/** Zeros are written, where they must be, so many at a time. */
const STEP = 1 << 20;

/** One open file of a gluster volume. */
export class GlusterFile implements Image {
  readonly #fd: NativeHandle;
  #sizeBytes: number;

  private constructor(fd: NativeHandle, sizeBytes: number) {
    this.#fd = fd;
    this.#sizeBytes = sizeBytes;
  }

  /** Of a descriptor, which is closed with it, or at once where its size cannot be had. */
  static async of(descriptor: bigint): Promise<GlusterFile> {
    const fd = new NativeHandle(descriptor, gfapi().close);
    try {
      return new GlusterFile(fd, (await statOf(fd)).sizeBytes);
    } catch (error) {
      await fd.close().catch(() => undefined);
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async allocationBytes(): Promise<number> {
    return (await statOf(this.#fd)).allocationBytes;
  }

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const end = Math.min(to, this.#sizeBytes);
    for (let at = from; at < end; ) {
      const data = await this.#seek(at, SEEK_DATA);
      if (data === undefined || data >= end) return;
      const hole = Math.min((await this.#seek(data, SEEK_HOLE)) ?? end, end);
      yield { offset: data, length: hole - data };
      at = hole;
    }
  }

  /** undefined where nothing but a hole is left. */
  async #seek(offset: number, whence: number): Promise<number | undefined> {
    try {
      return Number(await this.#fd.use((fd) => gfapi().lseek(fd, offset, whence)));
    } catch (error) {
      if (!hasErrno(error, ENXIO)) throw error;
      return undefined;
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      const part = buffer.subarray(done);
      const count = Number(
        await this.#fd.use((fd) => gfapi().pread(fd, part, part.length, offset + done, 0, null)),
      );
      if (count === 0) return void part.fill(0);
      done += count;
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done);
      done += Number(
        await this.#fd.use((fd) => gfapi().pwrite(fd, part, part.length, offset + done, 0, null, null)),
      );
    }
    this.#sizeBytes = Math.max(this.#sizeBytes, offset + bytes.length);
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    if (!dense && (await this.#discard(offset, length))) return;
    const zeros = Buffer.alloc(Math.min(STEP, length));
    for (let done = 0; done < length; done += STEP)
      await this.write(zeros.subarray(0, Math.min(STEP, length - done)), offset + done);
  }

  /** False where the bricks cannot free blocks. */
  async #discard(offset: number, length: number): Promise<boolean> {
    try {
      await this.#fd.use((fd) => gfapi().discard(fd, offset, length));
      return true;
    } catch (error) {
      if (!hasErrno(error, EOPNOTSUPP) && !hasErrno(error, ENOSYS)) throw error;
      return false;
    }
  }

  canFree(): boolean {
    return true;
  }

  async flush(): Promise<void> {
    await this.#fd.use((fd) => gfapi().fsync(fd, null, null));
  }

  async setSize(sizeBytes: number): Promise<void> {
    await this.#fd.use((fd) => gfapi().ftruncate(fd, sizeBytes, null, null));
    this.#sizeBytes = sizeBytes;
  }

  close(): Promise<void> {
    return this.#fd.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function statOf(fd: NativeHandle): Promise<Stat> {
  const stat = Buffer.alloc(STAT_BYTES);
  await fd.use((descriptor) => gfapi().fstat(descriptor, stat));
  return readStat(stat);
}
