import { join } from 'node:path';
import { makeDirectory, readIfExists, removeIfExists, replaceFile } from '../../host/files.ts';

/**
 * Which device each id in the trash of a pool is, kept on the host's disk. What lies under its hidden name may be another: where a host is
 * frozen or killed in the middle of a rename, somebody else may have given the name to a device of theirs.
 */
export class KeptDevices {
  readonly #stateDirectory: () => Promise<string>;

  constructor(stateDirectory: () => Promise<string>) {
    this.#stateDirectory = stateDirectory;
  }

  async #file(id: string): Promise<string> {
    return join(await this.#stateDirectory(), 'kept', id);
  }

  /** Durable. */
  async set(id: string, uid: string): Promise<void> {
    await makeDirectory(join(await this.#stateDirectory(), 'kept'));
    await replaceFile(await this.#file(id), uid);
  }

  /** Whether a device may be the one of an id: not when another one is on record. */
  async isSame(id: string, uid: string): Promise<boolean> {
    const known = await readIfExists(await this.#file(id));
    return known === undefined || known === uid;
  }

  /** Repeatable. */
  async forget(id: string): Promise<void> {
    await removeIfExists(await this.#file(id));
  }
}
