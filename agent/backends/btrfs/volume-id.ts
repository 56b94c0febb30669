import { join } from 'node:path';
import { readIfExists, replaceFile } from '../../host/files.ts';
import { subvolumeOf } from './btrfs.ts';

const FILE = '.stowage-id';

/**
 * What a volume is known by: the UUID of its subvolume. A volume that went back to a snapshot is a new subvolume, and remains
 * the same volume: then a file in it says of which subvolume it is the next state. What another one, such as a snapshot or a
 * clone, has inherited of that file says nothing.
 */
export async function volumeIdOf(path: string): Promise<string> {
  const subvolume = await subvolumeOf(path);
  const [id, of] = (await readIfExists(join(path, FILE)))?.trim().split(' ') ?? [];
  return of === subvolume && id ? id : subvolume;
}

/** Makes a subvolume the next state of a volume. Durable. */
export async function setVolumeId(path: string, id: string): Promise<void> {
  await replaceFile(join(path, FILE), `${id} ${await subvolumeOf(path)}\n`);
}
