import { lstat, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { volumeFormatSchema } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { IdentityStore } from '../../backends/backend.ts';
import {
  entriesIfExists,
  exists,
  readIfExists,
  removeIfExists,
  replaceFile,
  syncDirectory,
} from '../../host/files.ts';
import { HeldLock } from '../../host/held-lock.ts';
import { openIdentities } from '../identities.ts';
import { renameNew } from './new-names.ts';

/** The pool's private directory in the pool. What begins with a dot is never listed. */
export const PRIVATE = '.stowage';

/** Begins the name of a directory of what has lost its name, and may not go yet. */
const TAKEN = 'taken-';
/** In it: what that is, and its path below the directory of the pool. */
const [OBJECT, PLACE] = ['object', 'place'];

/** What version 0.1.0 kept in one file. */
const oldIdentitiesSchema = z.record(
  z.string(),
  z.object({ id: z.uuid(), format: volumeFormatSchema, inode: z.string(), transfer: z.string().optional() }),
);

/**
 * The agent's own directory inside a pool: identities, stages, things that are being made and things that are being deleted.
 *
 *     storage-id      which storage this is: an empty mount point has none
 *     lock            held while an agent works here
 *     identities.log  which volume has which id
 *     new/            what is being made; nothing in it is needed after a kill
 *     trash/          what is being deleted; `wipe-…` in it is overwritten before it goes, what is in `taken-…` gets its name back
 *     kept/ID         volumes in the trash of people: nothing removes them unasked
 *     stages/ID/      a stage each
 *
 * Where other hosts may have the same directory as a pool, all but storage-id is in hosts/AGENT/: each has its own.
 */
export class PrivateDirectory {
  readonly #pool: string;
  readonly #root: string;
  readonly path: string;
  /** Entries of `new`, `trash` and `stages` that this process works on. */
  readonly #used = new Set<string>();
  readonly #lock = new HeldLock();

  constructor(pool: string, agent: string | undefined) {
    this.#pool = pool;
    this.#root = join(pool, PRIVATE);
    this.path = agent === undefined ? this.#root : join(this.#root, 'hosts', agent);
  }

  /** Makes the directory where it is missing. Throws for a link, or a directory of somebody else. */
  async ensure(): Promise<void> {
    await mkdir(this.#root, { mode: 0o700 }).catch(unlessThere);
    const stat = await lstat(this.#root);
    // What is in it is moved and removed without a further look: in a link's place that would happen elsewhere.
    if (!stat.isDirectory() || stat.uid !== process.getuid?.())
      throw new StowageError('path-escapes-pool', `${this.#root} is not a directory of the agent's own`);
    for (const name of ['new', 'trash', 'kept', 'stages'])
      await mkdir(join(this.path, name), { recursive: true, mode: 0o700 }).catch(unlessThere);
  }

  /** Keeps other agents of this host out, until {@link release}. Throws `pool-inaccessible`. False where this held it before. */
  lock(): Promise<boolean> {
    return this.#lock.take(join(this.path, 'lock'), this.#pool);
  }

  release(): Promise<void> {
    return this.#lock.release();
  }

  /** Whether what is there now is what was there when it was locked. */
  isSame(): Promise<boolean> {
    return this.#lock.isAt(join(this.path, 'lock'));
  }

  /** Which storage this is; undefined where it was never a pool of ours. */
  async storageId(): Promise<string | undefined> {
    const text = await readFile(join(this.#root, 'storage-id'), 'utf8').catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
      },
    );
    return text?.trim() || undefined;
  }

  async makeStorageId(): Promise<string> {
    const id = clock.uuid();
    await replaceFile(join(this.#root, 'storage-id'), `${id}\n`);
    return id;
  }

  async identities(): Promise<IdentityStore> {
    const log = await openIdentities(join(this.path, 'identities.log'));
    const old = join(this.#root, 'volumes.json');
    if (log.size === 0 && (await exists(old))) {
      const known = oldIdentitiesSchema.parse(JSON.parse(await readFile(old, 'utf8')));
      for (const [name, { id, format, inode, transfer }] of Object.entries(known))
        void log.set(name, { id, format, fingerprint: inode, transfer });
      await log.flush();
      if (this.path === this.#root) await removeIfExists(old);
    }
    return log;
  }

  /**
   * Removes all that agents keep here, when the pool is deleted. Throws `pool-not-empty` while another is receiving, and while anybody
   * has volumes in the trash.
   */
  async removeAll(): Promise<void> {
    const agents = (await entriesIfExists(join(this.#root, 'hosts'))).map((name) => `hosts/${name}`);
    for (const directory of ['.', ...agents]) {
      const [kept] = await entriesIfExists(join(this.#root, directory, 'kept'));
      if (kept !== undefined)
        throw new StowageError('pool-not-empty', `volumes are in the trash of the pool, such as ${kept}`);
    }
    for (const agent of await entriesIfExists(join(this.#root, 'hosts'))) {
      const stages = join(this.#root, 'hosts', agent, 'stages');
      if (join(this.#root, 'hosts', agent) !== this.path && (await entriesIfExists(stages)).length > 0)
        throw new StowageError('pool-not-empty', 'another host has a transfer to this pool under way');
    }
    await this.release();
    await rm(this.#root, { recursive: true, force: true });
  }

  /** A path that nothing has yet, for something that is being made. It is removed at the end, unless it was renamed. */
  scratch(kind: 'new' | 'trash' = 'new'): AsyncDisposable & { path: string } {
    const name = clock.uuid();
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

  /** Where a volume in the trash lies. */
  kept(id: string): string {
    return join(this.path, 'kept', id);
  }

  keptIds(): Promise<string[]> {
    return entriesIfExists(join(this.path, 'kept'));
  }

  /** A name for what is to be overwritten before it goes, also after a kill. */
  doomed(): Disposable & { path: string } {
    const path = join(this.path, 'trash', `wipe-${clock.uuid()}`);
    return { path, ...this.claim(path) };
  }

  /** Whether this process works on an entry of `new`, `trash` or `stages`. */
  isUsed(name: string): boolean {
    return this.#used.has(name);
  }

  /** Keeps {@link clean} from an entry. */
  claim(path: string): Disposable {
    const name = basename(path);
    this.#used.add(name);
    return { [Symbol.dispose]: () => void this.#used.delete(name) };
  }

  /** Deletes a file or a whole directory without following a link: its name goes at once or not at all. */
  async remove(path: string): Promise<void> {
    await using doomed = this.scratch('trash');
    await rename(path, doomed.path);
    await syncDirectory(dirname(path));
  }

  /**
   * Takes the one file, or directory, that has a fingerprint away from its name, and no other that came under the name meanwhile: another
   * host may have made one while this one was frozen. `confirm` is called when the name is free, and says whether it may go. Throws as that
   * does, or `volume-changed`, and what has lost its name has it again; so it has after a kill before `confirm` has settled. Gives
   * what deletes it.
   */
  async takeAway(
    path: string,
    isIt: (aside: string) => Promise<boolean>,
    confirm: () => Promise<void>,
  ): Promise<() => Promise<void>> {
    const id = clock.uuid();
    const taken = join(this.path, 'trash', `${TAKEN}${id}`);
    const claim = this.claim(taken);
    const aside = join(taken, OBJECT);
    try {
      await mkdir(taken, { mode: 0o700 });
      await replaceFile(join(taken, PLACE), relative(this.#pool, path));
      await syncDirectory(dirname(taken));
      await rename(path, aside).catch(async (error) => {
        await rm(taken, { recursive: true, force: true });
        throw error;
      });
      try {
        if (!(await isIt(aside)))
          throw new StowageError('volume-changed', `${path} is another volume than it was; it stays`);
        await confirm();
      } catch (error) {
        await this.#giveBack(taken);
        throw error;
      }
      await syncDirectory(dirname(path));
      const doomed = join(this.path, 'trash', id);
      const doom = this.claim(doomed);
      await rename(taken, doomed);
      await syncDirectory(dirname(doomed));
      return async () => {
        await rm(doomed, { recursive: true, force: true });
        doom[Symbol.dispose]();
      };
    } finally {
      claim[Symbol.dispose]();
    }
  }

  /** What was taken from its name, and never given up, has it again; where another has the name it stays aside. */
  async #giveBack(taken: string): Promise<void> {
    const place = await readIfExists(join(taken, PLACE));
    if (place !== undefined && (await exists(join(taken, OBJECT)))) {
      const path = join(this.#pool, place);
      await renameNew(join(taken, OBJECT), path, basename(path));
      await syncDirectory(dirname(path));
    }
    await rm(taken, { recursive: true, force: true });
  }

  /**
   * Removes what a killed process left, and gives the paths of what must be overwritten first. What is worked on stays, and
   * what cannot be removed: the next start tries again.
   */
  async clean(): Promise<string[]> {
    const doomed: string[] = [];
    const remove = (path: string): Promise<void> =>
      rm(path, { recursive: true, force: true }).catch(() => undefined);
    for (const kind of ['new', 'trash', 'stages'])
      for (const name of await readdir(join(this.path, kind))) {
        if (this.#used.has(name)) continue;
        const path = join(this.path, kind, name);
        if (kind === 'trash' && name.startsWith('wipe-')) doomed.push(path);
        // Where another has its name, or nothing can be changed, it stays aside, and is told of as nobody's.
        else if (kind === 'trash' && name.startsWith(TAKEN))
          await this.#giveBack(path).catch(() => undefined);
        // Of a stage that was never begun there is no more than its directory.
        else if (kind !== 'stages' || !(await exists(join(path, 'state.json')))) await remove(path);
      }
    // Of version 0.1.0, which nothing goes on with.
    for (const name of ['scratch', 'transfers']) await remove(join(this.#root, name));
    return doomed;
  }
}

function unlessThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EEXIST') throw error;
}
