import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** libvirt's own test data, where it lies beside the checkout: LGPL, so the project does not hold it. */
const DATA = fileURLToPath(new URL('../../../shared/libvirt-xml/', import.meta.url));

export const withoutLibvirtData = existsSync(DATA)
  ? false
  : "libvirt's test data is not beside this checkout";

export function libvirtFile(path: string): string {
  return readFileSync(join(DATA, path), 'utf8');
}

/** Names of the files of a folder; none where the data is not there. */
export function libvirtFiles(folder: string): string[] {
  return existsSync(DATA) ? readdirSync(join(DATA, folder)).sort() : [];
}
