import { lstat, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Revert } from '../../../shared/util/revert.ts';
import { syncDirectory } from '../../host/files.ts';
import { copyFileFast } from '../../images/copy.ts';
import { changeVolume, writeDescriptor } from './volume.ts';

/**
 * Copies a volume with all its snapshots into a new directory: only the files that the descriptor names, fully
 * written or sharing blocks, never with holes. The source is held under the tools' lock and must not be in use.
 */
export async function cloneVolume(
  source: string,
  target: string,
  signal?: AbortSignal,
): Promise<'reflink' | 'copied'> {
  return changeVolume(source, async (volume) => {
    await using revert = new Revert();
    await mkdir(target, { mode: (await lstat(`${source}/`)).mode & 0o777 });
    revert.push(() => rm(target, { recursive: true, force: true }));
    let how: 'reflink' | 'copied' = 'reflink';
    for (const image of volume.descriptor.images) {
      how = await copyFileFast(join(source, image.file), join(target, image.file), { dense: true, signal });
    }
    await writeDescriptor(target, volume.descriptor);
    await syncDirectory(join(target, '..'));
    revert.commit();
    return how;
  });
}
