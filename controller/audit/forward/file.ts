import { type FileHandle, open, stat } from 'node:fs/promises';
import { z } from 'zod';
import type { AuditRecord } from '../../../shared/protocol/api.ts';
import { parseJson } from '../../../shared/util/json.ts';
import type { Destination } from './destination.ts';

const NEWLINE = 0x0a;
/** Longer than any record. */
const TAIL_BYTES = 64 << 10;
/** Of a file that has not one whole line: nothing, or the beginning of a record. */
const BEGIN = /^($|\{)/;
const lineSchema = z.object({ seq: z.int(), hash: z.string() });

/**
 * A file to which each record is appended as a line of JSON, durably, as `audit export` writes them. It may be renamed, as logrotate does:
 * the next records go into a new one of its name. What a kill or a full disk left of a line is cut off.
 */
export function fileDestination(path: string): Destination {
  let file: FileHandle | undefined;
  let inode = 0;

  /** The file of this name; another one where it was renamed or removed. */
  const opened = async (): Promise<FileHandle> => {
    const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return undefined;
    });
    if (file && there?.ino === inode) return file;
    await file?.close();
    file = undefined;
    // For the controller alone, as the trail itself.
    const handle = await open(path, 'a+', 0o600);
    file = handle;
    inode = (await handle.stat()).ino;
    return handle;
  };

  return {
    name: `file ${path}`,
    doubtMs: 0,
    async last() {
      const handle = await opened();
      const { size } = await handle.stat();
      const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
      await handle.read(tail, 0, tail.length, size - tail.length);
      const end = tail.lastIndexOf(NEWLINE) + 1;
      const line = tail.subarray(end < 2 ? 0 : tail.lastIndexOf(NEWLINE, end - 2) + 1, end).toString();
      const { data } = lineSchema.safeParse(parseJson(line));
      // Nothing is cut off that may be somebody else's.
      const isOurs =
        data !== undefined || (end === 0 && tail.length < TAIL_BYTES && BEGIN.test(tail.toString()));
      if (!isOurs) throw new Error(`${path} holds something else than an audit trail`);
      if (end < tail.length) await handle.truncate(size - tail.length + end);
      return data;
    },
    async take(records: readonly AuditRecord[]) {
      const handle = await opened();
      await handle.appendFile(records.map((record) => `${JSON.stringify(record)}\n`).join(''));
      await handle.datasync();
    },
    check() {},
    async close() {
      const last = file;
      file = undefined;
      await last?.close();
    },
  };
}
