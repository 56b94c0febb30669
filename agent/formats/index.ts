import type { VolumeFormat } from '../../shared/conf/volume.ts';
import { isQcow2 } from '../../shared/formats/qcow2/header.ts';
import { isVmdk, isVmdkDescription } from '../../shared/formats/vmdk/header.ts';
import type { DirectoryFormat, ImageFormat } from './format.ts';
import { isLuks } from './luks/header.ts';
import { luks } from './luks/index.ts';
import { ploop } from './ploop/driver.ts';
import { qcow2 } from './qcow2/index.ts';
import { raw } from './raw.ts';
import { vmdk } from './vmdk/index.ts';

/** Formats whose volumes are images. */
export const IMAGE_FORMATS = { raw, qcow2, luks, vmdk } satisfies Record<string, ImageFormat>;
/** Formats whose volumes are directories. */
export const DIRECTORY_FORMATS = { ploop } satisfies Record<string, DirectoryFormat>;

export type ImageFormatName = keyof typeof IMAGE_FORMATS;

export function isImageFormat(format: VolumeFormat | 'unknown'): format is ImageFormatName {
  return Object.hasOwn(IMAGE_FORMATS, format);
}

/** The format of a name that was kept with a volume; undefined for another word. */
export function imageFormatNamed(name: string | undefined): ImageFormatName | undefined {
  return (Object.keys(IMAGE_FORMATS) as ImageFormatName[]).find((format) => format === name);
}

/** The format that an image of unknown origin has, by its first bytes. */
export function probeFormat(head: Buffer): ImageFormatName {
  if (isQcow2(head)) return 'qcow2';
  if (isVmdk(head) || isVmdkDescription(head)) return 'vmdk';
  return isLuks(head) ? 'luks' : 'raw';
}
