import type { FileHandle } from 'node:fs/promises';
import type { Source, SourceExtent } from '../../shared/transfer/source.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { openRegular, readFully } from '../host/files.ts';
import { dataExtents } from '../host/holes.ts';

/** A regular file as a source, with its holes. Notices when somebody changes the file while it is read. */
export class FileSource implements Source {
  readonly sizeBytes: number;
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #state: string;

  private constructor(path: string, file: FileHandle, sizeBytes: number, state: string) {
    this.#path = path;
    this.#file = file;
    this.sizeBytes = sizeBytes;
    this.#state = state;
  }

  static async open(path: string): Promise<FileSource> {
    const file = await openRegular(path, 'r');
    const stat = await file.stat({ bigint: true });
    return new FileSource(path, file, Number(stat.size), `${stat.mtimeNs}:${stat.size}`);
  }

  *extents(from: number, to: number): Iterable<SourceExtent> {
    yield* dataExtents(this.#file, from, to);
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await readFully(this.#file, buffer, offset);
  }

  /** Throws `volume-in-use` when the file was written to since it was opened. */
  async checkUnchanged(): Promise<void> {
    const stat = await this.#file.stat({ bigint: true });
    if (`${stat.mtimeNs}:${stat.size}` !== this.#state) {
      throw new StowageError('volume-in-use', `${this.#path} was changed by somebody else while it was read`);
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
