import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { StowageError } from '../../shared/util/errors.ts';
import { libc } from './libc.ts';

const LOCK_EX_NB = 2 | 4;

/** flock(1) on a descriptor we pass on: the lock belongs to the open file, so it outlives the tool. */
function flockByTool(fd: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
    child.on('error', () => reject(new StowageError('tool-missing', 'flock: not found; install util-linux')));
    child.on('exit', (code) => resolve(code === 0));
  });
}

/**
 * Takes an exclusive flock(2) on a lock file, which is created when missing. It is the lock the ploop tools take.
 * Throws `volume-in-use` with `busy` when another process holds it. The lock ends with `await using` or the process.
 */
export async function lockFile(path: string, busy: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  const taken = libc ? libc.flock(file.fd, LOCK_EX_NB) === 0 : await flockByTool(file.fd);
  if (taken) return file;
  await file.close();
  throw new StowageError('volume-in-use', busy);
}
