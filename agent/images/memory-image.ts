import { StowageError } from '../../shared/util/errors.ts';
import type { Extent, Image } from './image.ts';

const PAGE = 64 << 10;

/** Bytes in memory; pages that nobody wrote to take none of it. */
export class Pages {
  readonly #pages = new Map<number, Buffer>();
  sizeBytes: number;
  /** Counts the changes. */
  changes = 0;

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  get allocationBytes(): number {
    return this.#pages.size * PAGE;
  }

  has(page: number): boolean {
    return this.#pages.has(page);
  }

  copy(): Pages {
    const copy = new Pages(this.sizeBytes);
    for (const [page, bytes] of this.#pages) copy.#pages.set(page, Buffer.from(bytes));
    return copy;
  }

  read(buffer: Uint8Array, offset: number): void {
    this.#each(offset, buffer.length, (page, within, start, length) => {
      const bytes = this.#pages.get(page);
      const part = buffer.subarray(start, start + length);
      if (bytes) part.set(bytes.subarray(within, within + length));
      else part.fill(0);
    });
  }

  write(bytes: Uint8Array, offset: number): void {
    this.changes++;
    this.sizeBytes = Math.max(this.sizeBytes, offset + bytes.length);
    this.#each(offset, bytes.length, (page, within, start, length) => {
      const held = this.#pages.get(page) ?? Buffer.alloc(PAGE);
      this.#pages.set(page, held);
      held.set(bytes.subarray(start, start + length), within);
    });
  }

  zero(offset: number, length: number, dense: boolean): void {
    this.changes++;
    this.#each(offset, length, (page, within, _start, part) => {
      if (part === PAGE && !dense) this.#pages.delete(page);
      else if (dense || this.#pages.has(page)) {
        const held = this.#pages.get(page) ?? Buffer.alloc(PAGE);
        this.#pages.set(page, held.fill(0, within, within + part));
      }
    });
  }

  setSize(sizeBytes: number): void {
    this.changes++;
    if (sizeBytes < this.sizeBytes) this.zero(sizeBytes, this.sizeBytes - sizeBytes, false);
    this.sizeBytes = sizeBytes;
  }

  #each(
    offset: number,
    length: number,
    work: (page: number, within: number, start: number, length: number) => void,
  ): void {
    for (let done = 0; done < length; ) {
      const page = Math.floor((offset + done) / PAGE);
      const within = (offset + done) % PAGE;
      const part = Math.min(PAGE - within, length - done);
      work(page, within, done, part);
      done += part;
    }
  }
}

/** An image that lies in memory. What is written is as durable as the memory. */
export class MemoryImage implements Image {
  readonly #pages: Pages;
  #closed = false;

  constructor(pages: Pages) {
    this.#pages = pages;
  }

  get sizeBytes(): number {
    return this.#pages.sizeBytes;
  }

  #open(): Pages {
    if (this.#closed) throw new StowageError('internal', 'the image was closed');
    return this.#pages;
  }

  async allocationBytes(): Promise<number> {
    return this.#open().allocationBytes;
  }

  async *extents(from: number, to: number): AsyncGenerator<Extent> {
    const end = Math.min(to, this.sizeBytes);
    for (let offset = from; offset < end; ) {
      const next = Math.min((Math.floor(offset / PAGE) + 1) * PAGE, end);
      if (this.#open().has(Math.floor(offset / PAGE))) yield { offset, length: next - offset };
      offset = next;
    }
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    this.#open().read(buffer, offset);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    this.#open().write(bytes, offset);
  }

  async zero(offset: number, length: number, dense = false): Promise<void> {
    this.#open().zero(offset, length, dense);
  }

  canFree(): boolean {
    return true;
  }

  async flush(): Promise<void> {
    this.#open();
  }

  async setSize(sizeBytes: number): Promise<void> {
    this.#open().setSize(sizeBytes);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
