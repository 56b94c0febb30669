import { join } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import { removeIfExists } from '../../host/files.ts';
import { PloopContent, writeContent } from './content.ts';
import { createImage, type Layout } from './create.ts';
import { BASE_IMAGE, newDescriptor } from './descriptor.ts';
import { SECTOR } from './header.ts';
import { volumeInfo } from './info.ts';
import { changeVolume } from './volume.ts';

export interface ConvertOptions {
  layout?: Layout;
  version?: 1 | 2;
}

/**
 * Converts a volume between raw, expanded and preallocated and between versions 1 and 2. The new image is written
 * whole beside the old one and takes its place only when it is durable. A volume with snapshots is refused with
 * `volume-has-snapshots`: the tool would convert the base alone and call it the volume.
 */
export async function convertVolume(
  directory: string,
  options: ConvertOptions,
  signal?: AbortSignal,
): Promise<void> {
  const info = await volumeInfo(directory);
  const layout = options.layout ?? info.layout;
  const version = options.version ?? (info.version || 2);
  if (layout === info.layout && (layout === 'raw' || version === info.version)) return;
  await changeVolume(directory, async (volume) => {
    const { descriptor } = volume;
    if (descriptor.images.length > 1) {
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not converted; merge or delete them first',
      );
    }
    const file = `${BASE_IMAGE}.converted`;
    const clusterSectors = descriptor.blocksizeSectors;
    await removeIfExists(join(directory, file));
    await volume.intend({ files: [file] });
    await using delta = await createImage(join(directory, file), {
      capacityBytes: info.capacityBytes,
      layout,
      version,
      clusterSectors,
    });
    const content = await PloopContent.open(directory);
    try {
      await writeContent(content, delta, signal);
    } finally {
      await content.close();
    }
    const type = layout === 'raw' ? 'Plain' : 'Compressed';
    const converted = newDescriptor(
      delta.sizeBytes / SECTOR,
      clusterSectors,
      type,
      layout === 'preallocated',
    );
    await volume.replaceImage(file, descriptor.images[0]!.file, {
      ...converted,
      images: [{ ...converted.images[0]!, file: descriptor.images[0]!.file }],
    });
  });
}
