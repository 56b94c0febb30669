import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import type { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import { syncDirectory, writeFully } from './files.ts';

/** Lines beyond those in force at which the file is written anew. */
const SLACK = 1000;
/** Records that are formatted before others get a turn. */
const STEP = 500;

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * A durable map from names to small records: an append-only file of lines, `crc32 ["name", record]`, or `crc32 ["name"]`
 * where the name was taken away. A change costs one line, whatever else is in it; changes that come at the same time share one
 * fdatasync. The file is compacted when most of it is out of date.
 *
 * After a kill or a loss of power the file holds every change whose promise had settled, and perhaps some later ones: a torn
 * last line is cut off. A damaged line before the last is an error: it is never read as absence.
 */
export class RecordLog<T> implements AsyncDisposable {
  readonly #path: string;
  readonly #records: Map<string, T>;
  /** undefined where nothing can be written. */
  #file: FileHandle | undefined;
  #bytes: number;
  #lines: number;
  #queue: Buffer[] = [];
  #waiters: Waiter[] = [];
  #flushing: Promise<void> | undefined;
  #failure: unknown;

  private constructor(
    path: string,
    file: FileHandle | undefined,
    records: Map<string, T>,
    bytes: number,
    lines: number,
  ) {
    this.#path = path;
    this.#file = file;
    this.#records = records;
    this.#bytes = bytes;
    this.#lines = lines;
  }

  /**
   * Opens or begins a log. On a file system that is mounted for reading only it can be read, and every change is rejected with
   * EROFS. Throws `io-error` for a damaged one, and what the system says of an unreadable one.
   */
  static async open<T>(path: string, schema: z.ZodType<T>): Promise<RecordLog<T>> {
    const text = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return Buffer.alloc(0);
      throw error;
    });
    const records = new Map<string, T>();
    let start = 0;
    let lines = 0;
    for (;;) {
      const end = text.indexOf(10, start);
      if (end < 0) break;
      const line = text.toString('utf8', start, end);
      const entry = parseLine(line);
      if (!entry) {
        // Only the last line can be torn.
        if (text.indexOf(10, end + 1) < 0 && end === text.length - 1) break;
        throw new StowageError('io-error', `${path} is damaged in line ${lines + 1}`);
      }
      const [name, value] = entry;
      if (value === undefined) records.delete(name);
      else {
        const parsed = schema.safeParse(value);
        if (!parsed.success)
          throw new StowageError('io-error', `${path} is not understood in line ${lines + 1}`);
        records.set(name, parsed.data);
      }
      start = end + 1;
      if (++lines % 10_000 === 0) await new Promise(setImmediate);
    }
    return new RecordLog(path, await openToWrite(path, text.length, start), records, start, lines);
  }

  get size(): number {
    return this.#records.size;
  }

  get(name: string): T | undefined {
    return this.#records.get(name);
  }

  entries(): IterableIterator<[string, T]> {
    return this.#records.entries();
  }

  /** Seen by {@link get} at once; settles when it is durable. */
  set(name: string, record: T): Promise<void> {
    this.#records.set(name, record);
    return this.#append([name, record]);
  }

  /** As {@link set}. Nothing is written for a name that is not there. */
  delete(name: string): Promise<void> {
    if (!this.#records.delete(name)) return Promise.resolve();
    return this.#append([name]);
  }

  /** Settles when all changes so far are durable. */
  async flush(): Promise<void> {
    while (this.#flushing) await this.#flushing;
    if (this.#failure) throw this.#failure;
  }

  #append(entry: [string, T?]): Promise<void> {
    this.#queue.push(formatLine(entry));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ resolve, reject });
    // Those who do not wait are told by flush.
    promise.catch(() => undefined);
    this.#flushing ??= this.#write();
    return promise;
  }

  async #write(): Promise<void> {
    // What the other callers of this turn bring goes along.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const lines = this.#queue.splice(0);
      const waiters = this.#waiters.splice(0);
      try {
        if (!this.#file) throw readOnly(this.#path);
        const bytes = Buffer.concat(lines);
        // A line that failed half way is overwritten by the next ones.
        await writeFully(this.#file, bytes, this.#bytes);
        await this.#file.datasync();
        this.#bytes += bytes.length;
        this.#lines += lines.length;
        this.#failure = undefined;
        if (this.#lines > 2 * this.#records.size + SLACK) await this.#compact();
        for (const waiter of waiters) waiter.resolve();
      } catch (error) {
        // The records in memory are right and the file lacks them: the next change writes them all.
        this.#failure = error;
        this.#lines = Number.POSITIVE_INFINITY;
        await this.#file?.truncate(this.#bytes).catch(() => undefined);
        for (const waiter of waiters) waiter.reject(error);
      }
    }
    // In the same turn as the last look at the queue: who comes next begins anew.
    this.#flushing = undefined;
  }

  async #compact(): Promise<void> {
    const temporary = `${this.#path}.new`;
    const file = await open(temporary, 'w', 0o600);
    let bytes = 0;
    let count = 0;
    try {
      let step: Buffer[] = [];
      const write = async (): Promise<void> => {
        const part = Buffer.concat(step);
        step = [];
        await writeFully(file, part, bytes);
        bytes += part.length;
      };
      // What is queued meanwhile is appended to the new file afterwards; a record may be in both, and the later one counts.
      for (const entry of [...this.#records]) {
        step.push(formatLine(entry));
        count++;
        if (step.length === STEP) await write();
      }
      await write();
      await file.datasync();
      await rename(temporary, this.#path);
    } catch (error) {
      await file.close();
      throw error;
    }
    await this.#file?.close().catch(() => undefined);
    this.#file = file;
    this.#bytes = bytes;
    this.#lines = count;
    await syncDirectory(dirname(this.#path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush().catch(() => undefined);
    await this.#file?.close();
  }
}

/** The file, cut off behind its last whole line; undefined where nothing can be written. */
async function openToWrite(path: string, length: number, whole: number): Promise<FileHandle | undefined> {
  try {
    const file = await open(path, constants.O_RDWR | (length === 0 ? constants.O_CREAT : 0), 0o600);
    try {
      if (whole < length) await file.truncate(whole);
      await syncDirectory(dirname(path));
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EROFS') return undefined;
    throw error;
  }
}

const readOnly = (path: string): Error =>
  Object.assign(new Error(`EROFS: read-only file system, write '${path}'`), { code: 'EROFS' });

function formatLine(entry: unknown): Buffer {
  const json = JSON.stringify(entry);
  return Buffer.from(`${crc32(json).toString(16).padStart(8, '0')} ${json}\n`);
}

function parseLine(line: string): [string, unknown] | undefined {
  const json = line.slice(9);
  if (line[8] !== ' ' || Number.parseInt(line.slice(0, 8), 16) !== crc32(json)) return undefined;
  const entry: unknown = JSON.parse(json);
  return Array.isArray(entry) && typeof entry[0] === 'string' ? [entry[0], entry[1]] : undefined;
}
