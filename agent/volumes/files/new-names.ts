import { link, lstat, mkdir, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { exists, statIfExists, syncDirectory } from '../../host/files.ts';
import { renameToNew } from '../../host/rename.ts';

const taken = (name: string): StowageError =>
  new StowageError('volume-exists', `the pool has a volume '${name}' already`);

/** File systems that have no hard links. */
const NO_LINKS = new Set(['EPERM', 'ENOSYS', 'EOPNOTSUPP', 'EMLINK']);

/** Makes the directory that a volume shall lie in, below that of its pool, where it is missing. Durable. */
export async function makeParent(path: string, pool: string): Promise<void> {
  const parent = dirname(path);
  const first = await mkdir(parent, { recursive: true, mode: 0o755 });
  if (first === undefined) return;
  for (let made = parent; made !== pool && made !== dirname(made); made = dirname(made))
    await syncDirectory(dirname(made));
}

/** Gives a new object the name `name` at `target`. A file is linked, which fails when the name was taken meanwhile. */
export async function placeNew(object: string, target: string, name: string): Promise<void> {
  if (!(await lstat(object)).isDirectory()) {
    try {
      await link(object, target);
      await unlink(object);
      return;
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') {
        const [ours, theirs] = await Promise.all([lstat(object), lstat(target)]);
        // Linked before a kill, and not yet unlinked.
        if (ours.ino === theirs.ino && ours.dev === theirs.dev) return unlink(object);
        throw taken(name);
      }
      if (!NO_LINKS.has(code)) throw error;
    }
  }
  // A directory cannot be linked: rename replaces nothing but an empty directory of that name.
  if (await exists(target)) throw taken(name);
  await rename(object, target);
}

/** Systems and file systems that cannot rename without replacing. */
const NO_RENAME_TO_NEW = new Set(['EINVAL', 'ENOSYS', 'tool-missing']);

/**
 * Gives what is at one path another name, in one step where the file system can. Elsewhere a kill may leave a file with both names,
 * and the next try ends that. Throws `volume-exists`.
 */
export async function renameNew(from: string, to: string, name: string): Promise<void> {
  try {
    renameToNew(from, to);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && !(await isSameFile(from, to))) throw taken(name);
    if (code !== 'EEXIST' && !NO_RENAME_TO_NEW.has(code)) throw error;
    await placeNew(from, to, name);
  }
}

/** Whether two paths are names of one file. */
export async function isSameFile(one: string, other: string): Promise<boolean> {
  const [first, second] = await Promise.all([one, other].map(statIfExists));
  return first !== undefined && first.ino === second?.ino && first.dev === second.dev;
}
