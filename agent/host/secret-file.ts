import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { StowageError } from '../../shared/util/errors.ts';

/** __O_TMPFILE of Linux, which needs O_DIRECTORY beside it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** In memory, on every Linux. */
const DIRECTORIES = ['/dev/shm', '/run'];
/** What says that a directory is not there, or takes no such files. */
const NOT_HERE = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EOPNOTSUPP', 'EACCES', 'EROFS']);

/**
 * A file without a name that holds a secret, for a tool that is given its descriptor: nobody else can open it, and it is gone with
 * the last who has it open.
 */
export async function secretFile(secret: string): Promise<FileHandle> {
  for (const directory of DIRECTORIES) {
    const file = await open(directory, constants.O_RDWR | O_TMPFILE, 0o600).catch(
      (error: NodeJS.ErrnoException) => {
        if (!NOT_HERE.has(error.code ?? '')) throw error;
        return undefined;
      },
    );
    if (!file) continue;
    try {
      await file.writeFile(secret);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }
  throw new StowageError(
    'io-error',
    `a secret cannot be given to a tool: none of ${DIRECTORIES.join(', ')} takes a file without a name`,
  );
}
