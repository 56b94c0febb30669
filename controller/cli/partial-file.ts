import { type FileHandle, link, lstat, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import { parseJson } from '../../shared/util/json.ts';

/** Chunks between two notes of how far the file has come: 32 MiB. */
const NOTE_CHUNKS = 16;

const noteSchema = z.object({
  /** Which state of which volume it is. */
  volumeId: z.string(),
  etag: z.string(),
  as: z.string(),
  sizeBytes: z.number(),
  /** Of the file that this is about. */
  inode: z.number(),
  /** The chunks of the volume that are in the file, from the first on, durably. */
  chunks: z.number().int().nonnegative(),
});
type Note = z.infer<typeof noteSchema>;
type State = Omit<Note, 'chunks' | 'inode'>;

/** A file that is being downloaded: `FILE.part`, with a note beside it of what is in it. Whole, it gets its name. */
export class PartialFile implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #state: State;
  #chunks: number;
  #noted: number;
  #noting: Promise<void> | undefined;

  private constructor(path: string, file: FileHandle, state: State, chunks: number) {
    this.#path = path;
    this.#file = file;
    this.#state = state;
    this.#chunks = chunks;
    this.#noted = chunks;
  }

  /** Goes on with what is there of the same state, or begins anew. */
  static async open(path: string, state: State): Promise<PartialFile> {
    const partial = `${path}.part`;
    const chunks = await chunksOf(path, state);
    if (chunks > 0) return new PartialFile(path, await open(partial, 'r+'), state, chunks);
    // A note outlives no file that it is about; and who still writes to an older file of this name does not write to ours.
    await rm(noteOf(path), { force: true });
    await rm(partial, { force: true });
    const file = await open(partial, 'wx+', 0o600);
    await file.truncate(state.sizeBytes);
    return new PartialFile(path, file, state, 0);
  }

  /** How many chunks are there, from the first on. */
  get chunks(): number {
    return this.#chunks;
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    for (let done = 0; done < bytes.length; )
      done += (await this.#file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }

  /** Fills the buffer; throws when the file is shorter. */
  async read(buffer: Buffer, offset: number): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      const { bytesRead } = await this.#file.read(buffer, done, buffer.length - done, offset + done);
      if (bytesRead === 0) throw new StowageError('io-error', `${this.#path}.part has become shorter`);
      done += bytesRead;
    }
  }

  /** Everything before this chunk is written. What comes next does not wait until that is on record. */
  reached(chunks: number): void {
    this.#chunks = chunks;
    if (this.#noting || chunks - this.#noted < NOTE_CHUNKS) return;
    // A disk that cannot keep it tells so at the next write or at the end.
    this.#noting = this.#note()
      .catch(() => undefined)
      .finally(() => {
        this.#noting = undefined;
      });
  }

  async #note(): Promise<void> {
    const { ino } = await this.#file.stat();
    const note: Note = { ...this.#state, inode: ino, chunks: this.#chunks };
    await this.#file.datasync();
    await writeFile(noteOf(this.#path), JSON.stringify(note), { mode: 0o600 });
    this.#noted = note.chunks;
  }

  /** Gives the whole file its name. Without `force` a file that has come to be there meanwhile stays: `file-exists`. */
  async finish(force = false): Promise<void> {
    await this.#noting;
    await this.#file.sync();
    const partial = `${this.#path}.part`;
    const [ours, there] = await Promise.all([this.#file.stat(), lstat(partial)]);
    if (ours.ino !== there.ino || ours.dev !== there.dev)
      throw new StowageError('file-exists', `another download to ${this.#path} took the place of this one`);
    if (force) await rename(partial, this.#path);
    else {
      await link(partial, this.#path).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? taken(this.#path) : error;
      });
      await rm(partial);
    }
    await rm(noteOf(this.#path), { force: true });
    this.#noted = this.#chunks;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#noting;
    if (this.#noted !== this.#chunks) await this.#note().catch(() => undefined);
    await this.#file.close();
  }
}

export const taken = (path: string): StowageError =>
  new StowageError('file-exists', `${path} is there already; --force overwrites it`);

const noteOf = (path: string): string => `${path}.part.json`;

/** How much of this state is in the file; 0 when there is none, or another state, or a torn note. */
async function chunksOf(path: string, state: State): Promise<number> {
  const text = await readFile(noteOf(path), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return '';
  });
  const note = noteSchema.safeParse(parseJson(text)).data;
  const partial = await lstat(`${path}.part`).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  if (!note || !partial?.isFile() || partial.size !== state.sizeBytes) return 0;
  const { chunks, inode, ...noted } = note;
  return inode === partial.ino && isDeepStrictEqual(noted, state) ? chunks : 0;
}
