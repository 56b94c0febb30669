import { readFile, stat } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { StowageError } from '../../shared/util/errors.ts';

/** No document is larger. */
const MOST_BYTES = 4 << 20;

/** A document from a file, or from standard input as `-`. */
export async function readDocument(path: string): Promise<string> {
  if (path === '-') return await text(process.stdin);
  const unreadable = (error: NodeJS.ErrnoException): never => {
    throw new StowageError(
      'invalid-argument',
      error.code === 'ENOENT' ? `there is no file ${path}` : `${path} cannot be read: ${error.message}`,
    );
  };
  const { size } = await stat(path).catch(unreadable);
  if (size > MOST_BYTES)
    throw new StowageError(
      'too-large',
      `${path} has more than ${MOST_BYTES >> 20} MiB: it is no document of libvirt`,
    );
  return await readFile(path, 'utf8').catch(unreadable);
}
