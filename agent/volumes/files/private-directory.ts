import { lstat, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { volumeFormatSchema } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { IdentityStore } from '../../backends/backend.ts';
import { exists, removeIfExists, replaceFile, syncDirectory } from '../../host/files.ts';
import { openIdentities } from '../identities.ts';

/** The pool's private directory in the pool. What begins with a dot is never listed. */
export const PRIVATE = '.stowage';

/** What version 0.1.0 kept in one file. */
const oldIdentitiesSchema = z.record(
  z.string(),
  z.object({ id: z.uuid(), format: volumeFormatSchema, inode: z.string(), transfer: z.string().optional() }),
);

/**
 * The pool's own directory inside the pool: identities, stages, things that are being made and things that are being deleted.
 *
 *     storage-id      which storage this is: an empty mount point has none
 *     identities.log  which volume has which id
 *     new/            what is being made; nothing in it is needed after a kill
 *     trash/          what is being deleted; `wipe-…` in it is overwritten before it goes
 *     stages/ID/      a stage each
 */
export class PrivateDirectory {
  readonly path: string;
  /** Entries of `new` and `trash` that this process works on. */
  readonly #used = new Set<string>();

  constructor(pool: string) {
    this.path = join(pool, PRIVATE);
  }

  /** Makes the directory where it is missing. Throws for a link, or a directory of somebody else. */
  async ensure(): Promise<void> {
    await mkdir(this.path, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    const stat = await lstat(this.path);
    // What is in it is moved and removed without a further look: in a link's place that would happen elsewhere.
    if (!stat.isDirectory() || stat.uid !== process.getuid?.())
      throw new StowageError('path-escapes-pool', `${this.path} is not a directory of the agent's own`);
    for (const name of ['new', 'trash', 'stages'])
      await mkdir(join(this.path, name), { recursive: true, mode: 0o700 });
  }

  /** Which storage this is; undefined where it was never a pool of ours. */
  async storageId(): Promise<string | undefined> {
    const text = await readFile(join(this.path, 'storage-id'), 'utf8').catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
      },
    );
    return text?.trim() || undefined;
  }

  async makeStorageId(): Promise<string> {
    const id = clock.uuid();
    await replaceFile(join(this.path, 'storage-id'), `${id}\n`);
    return id;
  }

  async identities(): Promise<IdentityStore> {
    const log = await openIdentities(join(this.path, 'identities.log'));
    const old = join(this.path, 'volumes.json');
    if (log.size === 0 && (await exists(old))) {
      const known = oldIdentitiesSchema.parse(JSON.parse(await readFile(old, 'utf8')));
      for (const [name, { id, format, inode, transfer }] of Object.entries(known))
        void log.set(name, { id, format, fingerprint: inode, transfer });
      await log.flush();
      await removeIfExists(old);
    }
    return log;
  }

  /** A path that nothing has yet, for something that is being made. It is removed at the end, unless it was renamed. */
  scratch(kind: 'new' | 'trash' = 'new', prefix = ''): AsyncDisposable & { path: string } {
    const name = `${prefix}${clock.uuid()}`;
    const path = join(this.path, kind, name);
    this.#used.add(name);
    return {
      path,
      [Symbol.asyncDispose]: async () => {
        await rm(path, { recursive: true, force: true });
        this.#used.delete(name);
      },
    };
  }

  /** Deletes a file or a whole directory without following a link: its name goes at once or not at all. */
  async remove(path: string): Promise<void> {
    await using doomed = this.scratch('trash');
    await rename(path, doomed.path);
    await syncDirectory(dirname(path));
  }

  /** Removes what a killed process left, and gives the paths of what must be overwritten first. What is worked on stays. */
  async clean(): Promise<string[]> {
    const doomed: string[] = [];
    for (const kind of ['new', 'trash'])
      for (const name of await readdir(join(this.path, kind))) {
        if (this.#used.has(name)) continue;
        const path = join(this.path, kind, name);
        if (kind === 'trash' && name.startsWith('wipe-')) doomed.push(path);
        else await rm(path, { recursive: true, force: true });
      }
    // Of version 0.1.0, which nothing goes on with.
    for (const name of ['scratch', 'transfers'])
      await rm(join(this.path, name), { recursive: true, force: true });
    return doomed;
  }
}
