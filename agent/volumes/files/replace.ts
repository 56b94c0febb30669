import { lstat, rename } from 'node:fs/promises';
import { exists } from '../../host/files.ts';
import type { PrivateDirectory } from './private-directory.ts';

/**
 * Puts an object in the place of another. Two files change places in one step. With a directory the old one steps aside
 * to `aside` first, and comes back if the new one cannot come; after a kill in between {@link finishReplacing} goes on.
 */
export async function replace(
  object: string,
  target: string,
  aside: string,
  place: PrivateDirectory,
): Promise<void> {
  if (await exists(aside)) return finishReplacing(object, target, aside, place);
  const [ours, theirs] = await Promise.all([lstat(object), lstat(target)]);
  if (ours.isFile() && theirs.isFile()) return rename(object, target);
  await rename(target, aside);
  await finishReplacing(object, target, aside, place);
}

async function finishReplacing(
  object: string,
  target: string,
  aside: string,
  place: PrivateDirectory,
): Promise<void> {
  if (await exists(object))
    await rename(object, target).catch(async (error) => {
      await rename(aside, target);
      throw error;
    });
  await place.remove(aside);
}
