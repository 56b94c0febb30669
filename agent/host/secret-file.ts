import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { StowageError } from '../../shared/util/errors.ts';

/** __O_TMPFILE of Linux, which needs O_DIRECTORY beside it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** In memory where the host has that. */
const DIRECTORIES = ['/dev/shm', '/run', tmpdir()];

/**
 * A file without a name that holds a secret, for a tool that is given its descriptor: nobody else can open it, and it is gone with
 * the last who has it open.
 */
export async function secretFile(secret: string): Promise<FileHandle> {
  for (const directory of DIRECTORIES) {
    const file = await open(directory, constants.O_RDWR | O_TMPFILE, 0o600).catch(() => undefined);
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
    `a secret cannot be given to a tool: neither of ${DIRECTORIES.join(', ')} takes a file without a name`,
  );
}
