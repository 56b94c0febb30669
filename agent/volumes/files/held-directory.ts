import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';

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

/** The same error, with the volume's name where its message has our own descriptor of it. */
export function nameVolume(error: unknown, name: string): unknown {
  if (!(error instanceof Error) || !/\/proc\/(self|\d+)\/fd\/\d+/.test(error.message)) return error;
  const message = error.message.replaceAll(/\/proc\/(self|\d+)\/fd\/\d+/g, `volume '${name}'`);
  if (isStowageError(error)) return new StowageError(error.code, message, { cause: error });
  return Object.assign(new Error(message, { cause: error }), {
    code: (error as NodeJS.ErrnoException).code,
    name: error.name,
  });
}
