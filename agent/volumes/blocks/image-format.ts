import type { NewVolume } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { ImageFormat } from '../../formats/format.ts';
import { IMAGE_FORMATS, type ImageFormatName, isImageFormat } from '../../formats/index.ts';

/** The driver of a format that a device can hold. Throws `not-supported`. */
export function imageFormat(
  format: NewVolume['format'] | 'unknown',
): ImageFormat & { name: ImageFormatName } {
  const driver: ImageFormat | undefined = isImageFormat(format) ? IMAGE_FORMATS[format] : undefined;
  if (driver && !driver.filesOnly) return { ...driver, name: driver.name as ImageFormatName };
  throw new StowageError(
    'not-supported',
    `this pool holds no volumes of format ${format}, which are ${driver ? 'files' : 'directories'}; take raw or qcow2`,
  );
}
