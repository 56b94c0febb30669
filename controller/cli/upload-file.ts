import type { Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { containerOf, type SourceFormat } from '../../shared/formats/detect.ts';
import { Qcow2Content } from '../../shared/formats/qcow2/content.ts';
import { readQcow2Header, refuseReferences } from '../../shared/formats/qcow2/header.ts';
import { VmdkContent } from '../../shared/formats/vmdk/content.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { StowageError } from '../../shared/util/errors.ts';

const HEAD_BYTES = 4096;

/** A local file that is sent: its bytes, or what a guest would see of the image that it is. */
export class UploadFile implements AsyncDisposable {
  readonly source: Source;
  readonly #file: FileHandle;
  readonly #stat: Stats;

  private constructor(file: FileHandle, stat: Stats, source: Source) {
    this.#file = file;
    this.#stat = stat;
    this.source = source;
  }

  /**
   * Opens a file; with the format of an image, what a guest would see of that. Throws `invalid-argument` for what is no file with content,
   * `invalid-image` for what is no sound image of the format, or does not stand alone, `not-supported` for an encrypted image.
   */
  static async open(path: string, format: SourceFormat): Promise<UploadFile> {
    const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'does not exist' : `cannot be read: ${error.message}`;
      throw new StowageError('invalid-argument', `the file ${path} ${why}`);
    });
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new StowageError('invalid-argument', `${path} is not a regular file`);
      if (stat.size === 0) throw new StowageError('invalid-argument', `the file ${path} is empty`);
      const source = await contentOf(bytesOf(file, stat.size), format);
      // An image that is cut is refused before anything is sent.
      for await (const _ of source.extents(0, source.sizeBytes));
      return new UploadFile(file, stat, source);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** What its first bytes look like; undefined for what may well be a raw image. */
  async container(): Promise<string | undefined> {
    const head = Buffer.alloc(HEAD_BYTES);
    await this.source.read(head, 0);
    return containerOf(head);
  }

  /** Throws `volume-changed` when somebody has written to the file since it was opened: it would be a mixture. */
  async checkUnchanged(): Promise<void> {
    const now = await this.#file.stat();
    if (now.size !== this.#stat.size || now.mtimeMs !== this.#stat.mtimeMs)
      throw new StowageError(
        'volume-changed',
        'the file was written to while it was sent; run the command again',
      );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.close();
    await this.#file.close();
  }
}

/** The bytes of a file, and zeros behind them. Holes are found by reading: zeros come from the page cache at memory speed. */
function bytesOf(file: FileHandle, sizeBytes: number): Source {
  return {
    sizeBytes,
    async *extents(from, to) {
      yield { offset: from, length: to - from };
    },
    async read(buffer, offset) {
      const within = Math.max(0, Math.min(buffer.length, sizeBytes - offset));
      for (let done = 0; done < within; ) {
        const { bytesRead } = await file.read(buffer, done, within - done, offset + done);
        if (bytesRead === 0)
          throw new StowageError('volume-changed', 'the file became shorter while it was read');
        done += bytesRead;
      }
      buffer.fill(0, within);
    },
    close: async () => undefined,
  };
}

async function contentOf(bytes: Source, format: SourceFormat): Promise<Source> {
  if (format === 'raw') return bytes;
  if (format === 'vmdk') return VmdkContent.open(bytes);
  const header = await readQcow2Header(bytes);
  refuseReferences(header);
  if (header.encrypted)
    throw new StowageError('not-supported', 'the image is encrypted: upload it with --format and --secret');
  return Qcow2Content.open(bytes, header, undefined);
}
