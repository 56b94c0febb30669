import type { VolumeFormat } from '../../shared/conf/volume.ts';
import type { FormatDriver } from './format.ts';
import { ploop } from './ploop/driver.ts';
import { qcow2 } from './qcow2.ts';
import { raw } from './raw.ts';

/** Every volume format, by name. */
export const FORMATS: Record<VolumeFormat, FormatDriver> = { raw, qcow2, ploop };
