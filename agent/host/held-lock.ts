import { type FileHandle, stat } from 'node:fs/promises';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { lockFile } from './lock.ts';

/** A lock that keeps other agents of this host out of a directory for as long as a pool is started. */
export class HeldLock {
  #file: FileHandle | undefined;

  /** Throws `pool-inaccessible` where another process holds it. False where this held it before. */
  async take(path: string, directory: string): Promise<boolean> {
    if (this.#file && (await isOpenAt(path, this.#file))) return false;
    await this.release();
    this.#file = await lockFile(path, '').catch((error) => {
      if (isStowageError(error, 'volume-in-use'))
        throw new StowageError('pool-inaccessible', `another agent works in ${directory}`);
      throw error;
    });
    return true;
  }

  async release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** Whether what is at the path now is what was there when it was taken. */
  async isAt(path: string): Promise<boolean> {
    return this.#file === undefined || isOpenAt(path, this.#file);
  }
}

/** Whether an open file is the one that has the name now. */
async function isOpenAt(path: string, file: FileHandle): Promise<boolean> {
  const [open, there] = await Promise.all([
    file.stat(),
    stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
    }),
  ]);
  return there?.ino === open.ino && there.dev === open.dev;
}
