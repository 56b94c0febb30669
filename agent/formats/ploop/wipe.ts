import { join } from 'node:path';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { removeIfExists } from '../../host/files.ts';
import { FileImage } from '../../images/file-image.ts';
import { overwrite } from '../wipe.ts';
import { createImage } from './create.ts';
import { BASE_IMAGE, formatDescriptor, newDescriptor } from './descriptor.ts';
import { SECTOR } from './header.ts';
import { volumeInfo } from './info.ts';
import { changeVolume } from './volume.ts';

/**
 * Overwrites all guest data and leaves an empty volume of the same capacity, layout and version. The capacity is read
 * before anything is lost. A volume with snapshots is refused: its deltas would stay readable, orphaned.
 */
export async function wipeVolume(
  directory: string,
  algorithm: WipeAlgorithm,
  signal?: AbortSignal,
): Promise<void> {
  const info = await volumeInfo(directory);
  await changeVolume(directory, async (volume) => {
    const image = volume.descriptor.images[0]!;
    if (volume.descriptor.images.length > 1) {
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not wiped; delete them first',
      );
    }
    const clusterSectors = volume.descriptor.blocksizeSectors;
    const { capacityBytes, layout } = info;
    const version = info.version || 2;
    const fresh = `${BASE_IMAGE}.wiped`;
    await removeIfExists(join(directory, fresh));
    const delta = await createImage(join(directory, fresh), {
      capacityBytes,
      layout,
      version,
      clusterSectors,
    });
    await delta[Symbol.asyncDispose]();
    const type = layout === 'raw' ? 'Plain' : 'Compressed';
    const descriptor = newDescriptor(capacityBytes / SECTOR, clusterSectors, type, layout === 'preallocated');
    const empty = { ...descriptor, images: [{ ...descriptor.images[0]!, file: image.file }] };
    // From the first byte overwritten on the old image is none: a cut, a cancel and a kill end with the empty one.
    await volume.intend({ redo: { from: fresh, to: image.file, descriptor: formatDescriptor(empty) } });
    try {
      await using old = await FileImage.open(join(directory, image.file), 'write');
      await overwrite(old, algorithm, signal);
    } finally {
      await volume.replaceImage(fresh, image.file, empty);
    }
  });
}
