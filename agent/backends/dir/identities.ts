import { randomUUID } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { volumeFormatSchema } from '../../../shared/conf/volume.ts';
import { StateFile } from '../../host/state-file.ts';

const identitySchema = z.object({
  id: z.uuid(),
  format: volumeFormatSchema,
  /** Inode and time of birth, which tell a renamed volume from a new one. */
  inode: z.string(),
  /** The transfer that made the volume. */
  transfer: z.string().optional(),
});
export type Identity = z.infer<typeof identitySchema>;

const fileSchema = z.record(z.string(), identitySchema);

/** Inode numbers are used again; together with the time of birth they are not. */
export function inodeOf(stat: BigIntStats): string {
  return `${stat.ino}:${stat.birthtimeNs}`;
}

/** Which volume has which id, kept inside the pool so that it outlives the agent. */
export class Identities {
  readonly #directory: string;
  readonly #file: StateFile;
  #known = new Map<string, Identity>();
  #loaded = false;
  /** Counts our own changes, and notes for each name the last one: a look that began before must not undo it. */
  #changes = 0;
  readonly #changedAt = new Map<string, number>();

  /** `directory` is the pool's private directory. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#file = new StateFile(join(directory, 'volumes.json'), () =>
      JSON.stringify(Object.fromEntries(this.#known)),
    );
  }

  async load(): Promise<void> {
    if (this.#loaded) return;
    const text = await readFile(join(this.#directory, 'volumes.json'), 'utf8').catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '{}';
        throw error;
      },
    );
    this.#known = new Map(Object.entries(fileSchema.parse(JSON.parse(text))));
    this.#loaded = true;
  }

  get changes(): number {
    return this.#changes;
  }

  get(name: string): Identity | undefined {
    return this.#known.get(name);
  }

  findTransfer(transfer: string): string | undefined {
    for (const [name, identity] of this.#known) if (identity.transfer === transfer) return name;
    return undefined;
  }

  async set(name: string, identity: Identity): Promise<void> {
    this.#known.set(name, identity);
    this.#changedAt.set(name, ++this.#changes);
    await this.#save();
  }

  async delete(name: string): Promise<void> {
    this.#changedAt.set(name, ++this.#changes);
    if (this.#known.delete(name)) await this.#save();
  }

  /**
   * Brings the record in line with what was found: a known name with another inode is a new volume, a vanished name
   * whose inode shows up under another name was renamed. `found` maps each name to its inode and probed format, as seen
   * since `since`, a value of {@link changes}; what we changed ourselves after that is left alone.
   */
  async reconcile(found: Map<string, Omit<Identity, 'id'>>, since: number): Promise<void> {
    const isNewer = (name: string): boolean => (this.#changedAt.get(name) ?? 0) > since;
    let changed = false;
    const gone = new Map<string, Identity>();
    for (const [name, identity] of this.#known) {
      if (found.get(name)?.inode === identity.inode || isNewer(name)) continue;
      this.#known.delete(name);
      gone.set(identity.inode, identity);
      changed = true;
    }
    for (const [name, { inode, format }] of found) {
      if (this.#known.has(name) || isNewer(name)) continue;
      this.#known.set(name, gone.get(inode) ?? { id: randomUUID(), format, inode });
      changed = true;
    }
    if (changed) await this.#save();
  }

  async #save(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await this.#file.save();
  }
}
