import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { StowageError } from '../../../shared/util/errors.ts';

/**
 * A directory held open: paths below `path` go through the descriptor, so that nobody can swap the directory itself
 * for a link between a check and a use.
 */
export interface HeldDirectory extends AsyncDisposable {
  /** Usable by this process as long as it is held. */
  readonly path: string;
}

export async function holdDirectory(path: string): Promise<HeldDirectory> {
  const handle: FileHandle = await open(
    path,
    constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
  ).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ELOOP' || error.code === 'ENOTDIR')
      throw new StowageError('path-escapes-pool', `${path} is a link or not a directory`);
    throw error;
  });
  return {
    path: `/proc/self/fd/${handle.fd}`,
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** What has this name: a plain file, a directory, or something that is never a volume (links, devices, sockets). */
export async function kindOf(path: string): Promise<'file' | 'directory' | 'other' | 'missing'> {
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (!stat) return 'missing';
  if (stat.isFile()) return 'file';
  return stat.isDirectory() ? 'directory' : 'other';
}
