import { StowageError } from '../../../shared/util/errors.ts';
import { roundUp } from '../../../shared/util/units.ts';
import { geometry, SECTOR } from './header.ts';
import { growMounted, mountedDevice } from './mounted.ts';
import { changeVolume, readDescriptor } from './volume.ts';

/**
 * Grows the top delta and the descriptor to `capacityBytes`, rounded up to whole clusters. Shrinking is refused with
 * `shrink-refused`: only a mounted file system can tell what may be cut. A mounted volume is left to the ploop tool.
 */
export async function growVolume(directory: string, capacityBytes: number): Promise<void> {
  const before = await readDescriptor(directory);
  const sizeSectors = roundUp(Math.ceil(capacityBytes / SECTOR), before.blocksizeSectors);
  if (await mountedDevice(directory, before)) return growMounted(directory, sizeSectors);
  await changeVolume(directory, async (volume) => {
    const topFile = volume.descriptor.images.find((image) => image.guid === volume.descriptor.topGuid)!.file;
    await using chain = await volume.openChain(undefined, (file) => file === topFile);
    const currentSectors = chain.top.sizeBytes / SECTOR;
    if (sizeSectors < currentSectors) {
      throw new StowageError(
        'shrink-refused',
        `the volume has ${currentSectors * SECTOR} bytes; a ploop volume shrinks only while mounted, by the ploop tool`,
      );
    }
    await volume.intend({ marked: [topFile] });
    if (sizeSectors > currentSectors) await chain.top.grow(sizeSectors * SECTOR);
    // The tool leaves cylinders and heads as they are when it grows a volume; only <Sectors> follows.
    const fits =
      volume.descriptor.cylinders > 0
        ? volume.descriptor
        : { ...volume.descriptor, ...geometry(sizeSectors) };
    await volume.commit({ ...fits, sizeSectors });
  });
}
