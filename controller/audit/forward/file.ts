import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { syncDirectory } from '../../../shared/util/files.ts';
import { parseJson } from '../../../shared/util/json.ts';
import type { Destination } from './destination.ts';

const NEWLINE = 0x0a;
/** Longer than any record. */
const TAIL_BYTES = 64 << 10;
const lineSchema = z.object({ seq: z.int(), hash: z.string() });

interface Open {
  handle: FileHandle;
  identity: string;
}

const identityOf = ({ dev, ino }: { dev: number; ino: number }): string => `${dev} ${ino}`;

/** What it is, if it is there. Throws for anything but a file: a pipe or a device would swallow what it is given. */
async function fileAt(path: string): Promise<string | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  if (found && !found.isFile()) throw new Error(`${path} is no file`);
  return found && identityOf(found);
}

async function openFile(path: string, isNew: boolean): Promise<Open> {
  // For the controller alone, as the trail itself.
  const handle = await open(path, 'a+', 0o600);
  if (isNew) await syncDirectory(dirname(path));
  return { handle, identity: identityOf(await handle.stat()) };
}

/** The last whole line of a file, and what stands behind it: the beginning of a line that was not written to its end. */
async function endOf(handle: FileHandle): Promise<{ line?: string; torn: Buffer; size: number }> {
  const { size } = await handle.stat();
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  const { bytesRead } = await handle.read(tail, 0, tail.length, size - tail.length);
  if (bytesRead !== tail.length) throw new Error('it changes while it is read');
  const end = tail.lastIndexOf(NEWLINE) + 1;
  const torn = tail.subarray(end);
  if (end === 0) return { torn, size };
  const begin = end < 2 ? 0 : tail.lastIndexOf(NEWLINE, end - 2) + 1;
  return { line: tail.subarray(begin, end).toString(), torn, size };
}

/**
 * A file to which each record is appended as a line of JSON, durably, as `audit export` writes them. It may be renamed, as logrotate does:
 * the next records go into a new one of its name. What a kill left of a line is cut off, and nothing else: a file with anything but this
 * trail in it is left as it is.
 */
export function fileDestination(path: string): Destination {
  let file: Open | undefined;
  const foreign = (): Error => new Error(`${path} holds something else than an audit trail`);

  const close = async (): Promise<void> => {
    const last = file;
    file = undefined;
    await last?.handle.close();
  };

  /** The file of this name; `isKnown` where it is the one that was open. */
  const opened = async (): Promise<{ handle: FileHandle; isKnown: boolean }> => {
    const there = await fileAt(path);
    if (file && there === file.identity) return { handle: file.handle, isKnown: true };
    await close();
    file = await openFile(path, there === undefined);
    return { handle: file.handle, isKnown: there === undefined };
  };

  return {
    name: `file ${path}`,
    gatherMs: 0,
    async last() {
      const { line } = await endOf((await opened()).handle);
      if (line === undefined) return undefined;
      const { data } = lineSchema.safeParse(parseJson(line));
      if (!data) throw foreign();
      return data;
    },
    async take(records) {
      const { handle, isKnown } = await opened();
      const lines = records.map((record) => `${JSON.stringify(record)}\n`);
      const { torn, size } = await endOf(handle);
      if (!isKnown && size > 0) throw new Error(`${path} was replaced by another file`);
      if (
        torn.length > 0 &&
        !Buffer.from(lines[0] ?? '')
          .subarray(0, torn.length)
          .equals(torn)
      )
        throw foreign();
      const end = size - torn.length;
      if (torn.length > 0) await handle.truncate(end);
      try {
        await handle.appendFile(lines.join(''));
      } catch (error) {
        // Before somebody renames it: a part of these lines would be in both files.
        await handle.truncate(end).catch(() => undefined);
        throw error;
      }
      await handle.datasync();
    },
    // Each one was durable when it was taken.
    async confirm() {},
    close,
  };
}
