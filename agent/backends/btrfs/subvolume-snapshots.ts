import { mkdir, rename, rm, rmdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Snapshot } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { entriesIfExists, exists, syncDirectory } from '../../host/files.ts';
import { exchange, renameToNew } from '../../host/rename.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import type { Device, DeviceSnapshots } from '../../volumes/blocks/device-storage.ts';
import { btrfs, subvolumeOf } from './btrfs.ts';
import type { VolumeIds } from './volume-ids.ts';

const ID = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}$/;

/** Snapshots of subvolumes. A volume takes them along under every name, as they are kept by its id. */
export class SubvolumeSnapshots implements DeviceSnapshots {
  readonly #pool: string;
  /** `snapshots/ID` in it holds the snapshots of a volume, `switches/ID` what the volume is to become, or was. */
  readonly #own: string;
  readonly #ids: VolumeIds;

  /** `pool` is the directory of the volumes, `own` one that nobody else works in. */
  constructor(pool: string, own: string, ids: VolumeIds) {
    this.#ids = ids;
    this.#pool = pool;
    this.#own = own;
  }

  get #all(): string {
    return join(this.#own, 'snapshots');
  }

  get #switches(): string {
    return join(this.#own, 'switches');
  }

  /** `ID` in it holds the snapshots of a volume that is being removed. */
  get #removals(): string {
    return join(this.#own, 'removals');
  }

  #of(uid: string): string {
    return join(this.#all, uid);
  }

  async ids(uid: string): Promise<string[]> {
    return entriesIfExists(this.#of(uid));
  }

  async list({ uid }: Device): Promise<Snapshot[]> {
    // What a snapshot alone takes is told only with quotas, which cost more than they tell.
    return (await this.ids(uid)).map((id) => ({ id, current: false, allocationBytes: 0 }));
  }

  /** Where a snapshot is. Throws `snapshot-not-found`. */
  async pathOf({ uid }: Device, id: string): Promise<string> {
    if (!(await this.ids(uid)).includes(id))
      throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
    return join(this.#of(uid), id);
  }

  async markOf(device: Device, id: string): Promise<string> {
    return subvolumeOf(await this.pathOf(device, id));
  }

  /** The image has the name in it that it has in the volume. */
  async open(device: Device, id: string): Promise<Image> {
    return FileImage.open(join(await this.pathOf(device, id), basename(device.path)), 'read');
  }

  async create(device: Device, id: string): Promise<void> {
    await this.#refuseTaken(device, id);
    await this.add(device.uid, id, join(this.#pool, device.name));
  }

  /** Makes what a subvolume holds now a snapshot of a volume. */
  async add(uid: string, id: string, path: string): Promise<void> {
    const directory = this.#of(uid);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await btrfs('subvolume', 'snapshot', '-r', '--', path, join(directory, id));
    await syncDirectory(directory);
    await syncDirectory(this.#all);
  }

  /** Whether a snapshot can be named so. */
  isId(id: string): boolean {
    return ID.test(id);
  }

  /** Throws `invalid-name`, `snapshot-exists` for what no new snapshot can be called. */
  async #refuseTaken({ uid }: Device, id: string): Promise<void> {
    if (!this.isId(id)) throw new StowageError('invalid-name', `a snapshot cannot be named '${id}' here`);
    if ((await this.ids(uid)).includes(id))
      throw new StowageError('snapshot-exists', `the snapshot ${id} exists already`);
  }

  async rename(device: Device, id: string, to: string): Promise<void> {
    const snapshot = await this.pathOf(device, id);
    await this.#refuseTaken(device, to);
    renameToNew(snapshot, join(this.#of(device.uid), to));
    await syncDirectory(this.#of(device.uid));
  }

  async clone(device: Device, id: string, name: string): Promise<void> {
    await btrfs('subvolume', 'snapshot', '--', await this.pathOf(device, id), join(this.#pool, name));
    await syncDirectory(this.#pool);
  }

  async switch(device: Device, id: string): Promise<void> {
    const snapshot = await this.pathOf(device, id);
    const next = join(this.#switches, device.uid);
    await mkdir(this.#switches, { recursive: true, mode: 0o700 });
    await this.removeSwitches(device.uid);
    await btrfs('subvolume', 'snapshot', '--', snapshot, next);
    await this.#ids.set(next, device.uid);
    exchange(next, join(this.#pool, device.name));
    await syncDirectory(this.#pool);
    await syncDirectory(this.#switches);
    // It has gone back: what it was before goes at the next start, where it cannot go now.
    await this.removeSwitches(device.uid).catch(() => undefined);
  }

  async delete(device: Device, id: string): Promise<void> {
    await remove(await this.pathOf(device, id));
    await this.#removeIfEmpty(device.uid);
  }

  /** The directory of a volume that has no snapshots any more. */
  async #removeIfEmpty(uid: string): Promise<void> {
    await rmdir(this.#of(uid)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'ENOENT') throw error;
    });
  }

  /** What a switch before a kill has left: what a volume was to become, or what it was. Of one volume, or of all. */
  async removeSwitches(uid?: string): Promise<void> {
    for (const name of await entriesIfExists(this.#switches))
      if (uid === undefined || name === uid) await this.#removeState(join(this.#switches, name));
  }

  /** With the record of which volume it was a state of. */
  async #removeState(path: string): Promise<void> {
    const subvolume = await subvolumeOf(path);
    await remove(path);
    await this.#ids.forget(subvolume);
  }

  /** Before a volume is removed: they go with it, also when a kill comes in between. */
  async removing(uid: string): Promise<void> {
    if ((await this.ids(uid)).length === 0) return this.#removeIfEmpty(uid);
    await mkdir(this.#removals, { recursive: true, mode: 0o700 });
    await rename(this.#of(uid), join(this.#removals, uid));
    await syncDirectory(this.#removals);
    await syncDirectory(this.#all);
  }

  /** After it could not be removed: they are its snapshots again. */
  async staying(uid: string): Promise<void> {
    if (!(await exists(join(this.#removals, uid))) || (await exists(this.#of(uid)))) return;
    await rename(join(this.#removals, uid), this.#of(uid));
    await syncDirectory(this.#all);
  }

  /** After it was removed. */
  async removed(uid: string): Promise<void> {
    const directory = join(this.#removals, uid);
    for (const id of await entriesIfExists(directory)) await remove(join(directory, id));
    await rm(directory, { recursive: true, force: true });
  }

  /** Of removals that a kill has cut: those of volumes that are there still come back, the others go. */
  async finishRemovals(isThere: (uid: string) => boolean): Promise<void> {
    for (const uid of await entriesIfExists(this.#removals))
      if (isThere(uid)) await this.staying(uid);
      else await this.removed(uid);
  }

  /** Throws `pool-not-empty` while there is one, such as of a volume that somebody has moved elsewhere. */
  async refuseAny(): Promise<void> {
    for (const uid of await entriesIfExists(this.#all)) {
      const [id] = await this.ids(uid);
      if (id !== undefined)
        throw new StowageError('pool-not-empty', `there is a snapshot still, ${join(this.#of(uid), id)}`);
    }
  }
}

const remove = async (path: string): Promise<void> =>
  void (await btrfs('subvolume', 'delete', '--commit-after', '--', path));
