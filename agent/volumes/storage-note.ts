import { join } from 'node:path';
import { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import { readIfExists, removeIfExists, replaceFile } from '../host/files.ts';

const schema = z.object({ id: z.string(), path: z.string() });

/**
 * The agent's own note of which storage a pool is, kept on the host's disk, where no unmounting takes it away: an empty
 * mount point, or another volume group of the same name, is not taken for the pool.
 */
export class StorageNote {
  readonly #stateDirectory: () => Promise<string>;

  constructor(stateDirectory: () => Promise<string>) {
    this.#stateDirectory = stateDirectory;
  }

  async #file(): Promise<string> {
    return join(await this.#stateDirectory(), 'storage-id');
  }

  /** Throws `pool-inaccessible` when another storage than `id`, or none, was noted to be at `path`. */
  async check(path: string, id: string | undefined): Promise<void> {
    const text = await readIfExists(await this.#file());
    const known = text === undefined ? undefined : schema.parse(JSON.parse(text));
    if (known?.path === path && known.id !== id)
      throw new StowageError(
        'pool-inaccessible',
        `${path} holds ${id === undefined ? 'no' : 'another'} pool: its storage is not there, or another one is in its place; 'pool build' takes what is there now`,
      );
  }

  /** From now on `id` is the storage at `path`. Durable; writes nothing when that is noted already. */
  async set(path: string, id: string): Promise<void> {
    const text = JSON.stringify({ id, path });
    const file = await this.#file();
    if ((await readIfExists(file)) !== text) await replaceFile(file, text);
  }

  /** From now on whatever is there is the pool's storage. */
  async forget(): Promise<void> {
    await removeIfExists(await this.#file());
  }
}
