import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { clock } from '../../../shared/util/clock.ts';
import { syncDirectory } from '../../../shared/util/files.ts';
import { notesIn, parseNote } from '../stowage-verify.ts';
import { refusalOf } from './advance.ts';
import { inconsistent, otherRoot, type Witness } from './witness.ts';

/** Whoever verifies reads all of it: it has no more than a few lines an hour. */
const LOOK_MS = 600_000;
const NEWLINE = 0x0a;
/** Longer than two checkpoints. */
const TAIL_BYTES = 16 << 10;

async function tailOf(file: FileHandle, most: number): Promise<Buffer> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(Math.min(size, most));
  const { bytesRead } = await file.read(tail, 0, tail.length, size - tail.length);
  if (bytesRead !== tail.length) throw new Error('it changes while it is read');
  return tail;
}

/**
 * A file to which checkpoints are appended, durably, each as a line of JSON, as an export of the trail has them: on storage that lets nobody
 * change what is written it is a witness. What a kill left of a line ends there, and the next one begins on its own line.
 */
export function fileWitness(path: string, lookMs = LOOK_MS): Witness {
  return {
    name: path,
    lookMs,
    async show(old, proof, text) {
      await using file = await open(path, 'a+', 0o600);
      if (!(await file.stat()).isFile()) throw new Error('it is no file');
      const note = parseNote(text);
      const lastIn = (part: Buffer) =>
        notesIn(part.toString()).findLast(({ origin }) => origin === note.origin);
      const tail = await tailOf(file, TAIL_BYTES);
      // What others have written behind our last line does not let us forget it.
      const last = lastIn(tail) ?? lastIn(await tailOf(file, Number.MAX_SAFE_INTEGER));
      const refusal = refusalOf(last, old, note, proof);
      if (refusal === 'other-root') throw otherRoot(old);
      if (refusal === 'inconsistent' || refusal === 'malformed') throw inconsistent(old);
      if (refusal) return refusal;
      const isTorn = tail.length > 0 && tail.at(-1) !== NEWLINE;
      await file.appendFile(`${isTorn ? '\n' : ''}${JSON.stringify({ witnessed: text })}\n`);
      await file.datasync();
      if (tail.length === 0) await syncDirectory(dirname(path));
      return { signatures: '', at: clock.now() };
    },
  };
}
