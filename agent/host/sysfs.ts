import { readFile } from 'node:fs/promises';

/** What a driver says where it has no such attribute, or the device is being taken away. */
const ABSENT = new Set(['ENOENT', 'EINVAL', 'ENXIO', 'ENODEV', 'EOPNOTSUPP']);

/** The text of an attribute of sysfs; undefined where the device has none, or has gone. */
export async function attributeAt(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
