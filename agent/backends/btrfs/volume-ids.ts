import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfExists, replaceFile, syncDirectory } from '../../host/files.ts';
import { subvolumeOf } from './btrfs.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * What volumes are known by: the UUID of their subvolume. A volume that went back to a snapshot is a new subvolume, and remains the
 * same volume: of which volume that is the next state is on record in a directory of the pool's own, where nobody else writes.
 */
export class VolumeIds {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async of(path: string): Promise<string> {
    const subvolume = await subvolumeOf(path);
    const id = (await readIfExists(join(this.#directory, subvolume)))?.trim();
    return id !== undefined && UUID.test(id) ? id : subvolume;
  }

  /** Makes a subvolume the next state of a volume. Durable. */
  async set(path: string, id: string): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await replaceFile(join(this.#directory, await subvolumeOf(path)), `${id}\n`);
  }

  /** Of a subvolume that is gone. */
  async forget(subvolume: string): Promise<void> {
    await rm(join(this.#directory, subvolume), { force: true });
    await syncDirectory(this.#directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
}
