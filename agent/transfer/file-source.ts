import type { FileHandle } from 'node:fs/promises';
import type { Source, SourceExtent } from '../../shared/transfer/source.ts';
import { openRegular, readFully } from '../host/files.ts';
import { dataExtents } from '../host/holes.ts';

/** A regular file as a source, with its holes. */
export class FileSource implements Source {
  readonly sizeBytes: number;
  readonly #file: FileHandle;

  private constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
  }

  static async open(path: string): Promise<FileSource> {
    const file = await openRegular(path, 'r');
    return new FileSource(file, (await file.stat()).size);
  }

  *extents(from: number, to: number): Iterable<SourceExtent> {
    yield* dataExtents(this.#file, from, to);
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await readFully(this.#file, buffer, offset);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
