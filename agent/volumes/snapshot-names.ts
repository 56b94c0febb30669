import type { VolumeFormat } from '../../shared/conf/volume.ts';
import { StowageError } from '../../shared/util/errors.ts';

/** The error for a new name of a snapshot that lies in the bytes of its volume. */
export const keepsNames = (format: VolumeFormat | 'unknown'): StowageError =>
  new StowageError(
    'not-supported',
    `a snapshot in a ${format} volume keeps its id: nothing renames one there`,
  );
