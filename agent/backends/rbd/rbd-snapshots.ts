import type { Snapshot } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { Image } from '../../images/image.ts';
import type { Device, DeviceSnapshots } from '../../volumes/blocks/device-storage.ts';
import type { RbdImage } from './rbd-image.ts';

/** What tells that an image went back to a snapshot. */
export const CHANGED = 'stowage.changed';

/** The snapshot that clones of a base stand on, as Proxmox VE names it. */
export const OF_BASE = '__base__';

/** Snapshots that a volume is only read by are not shown, nor what makes a base of it. */
export const isVisible = (name: string): boolean => !name.startsWith('.stowage.') && name !== OF_BASE;

type With = <T>(device: Device, mode: 'read' | 'write', work: (image: RbdImage) => Promise<T>) => Promise<T>;

/** Snapshots of RBD images. */
export class RbdSnapshots implements DeviceSnapshots {
  readonly #with: With;
  readonly #open: (device: Device, snapshot: string) => Promise<Image>;
  readonly #clone: (device: Device, snapshot: string, name: string) => Promise<void>;

  constructor(
    with_: With,
    open: (device: Device, snapshot: string) => Promise<Image>,
    clone: (device: Device, snapshot: string, name: string) => Promise<void>,
  ) {
    this.#with = with_;
    this.#open = open;
    this.#clone = clone;
  }

  async markOf(device: Device, id: string): Promise<string> {
    const all = await this.#with(device, 'read', (image) => image.numberedSnapshots());
    const found = all.find(({ name }) => name === id && isVisible(name));
    if (!found) throw notFound(id);
    return found.number;
  }

  open(device: Device, id: string): Promise<Image> {
    return this.#open(device, id);
  }

  async list(device: Device): Promise<Snapshot[]> {
    const all = await this.#with(device, 'read', (image) => image.snapshots());
    return all.filter(isVisible).map((name) => ({ id: name, current: false, allocationBytes: 0 }));
  }

  async create(device: Device, id: string): Promise<void> {
    await naming(id, () => this.#with(device, 'write', (image) => image.createSnapshot(id)));
  }

  async rename(device: Device, id: string, to: string): Promise<void> {
    await naming(to, () =>
      this.#with(device, 'write', async (image) => {
        await this.#require(image, id);
        await image.renameSnapshot(id, to);
      }),
    );
  }

  async #require(image: RbdImage, id: string): Promise<void> {
    if (!(await image.snapshots()).filter(isVisible).includes(id)) throw notFound(id);
  }

  async clone(device: Device, id: string, name: string): Promise<void> {
    await this.#with(device, 'write', async (image) => {
      await this.#require(image, id);
      if (!(await image.isProtected(id))) await image.protectSnapshot(id);
    });
    await this.#clone(device, id, name);
  }

  async switch(device: Device, id: string): Promise<void> {
    await this.#with(device, 'write', async (image) => {
      await this.#require(image, id);
      await image.rollback(id);
      // Going back is no write to Ceph.
      await image.setMetadata(CHANGED, clock.uuid());
    });
  }

  async delete(device: Device, id: string): Promise<void> {
    await this.#with(device, 'write', async (image) => {
      await this.#require(image, id);
      await removeSnapshot(image, id);
    });
  }
}

/** Also one that clones stood on. Throws `volume-in-use` while they do. */
export async function removeSnapshot(image: RbdImage, id: string): Promise<void> {
  if (await image.isProtected(id)) await image.unprotectSnapshot(id);
  await image.removeSnapshot(id);
}

const notFound = (id: string): StowageError =>
  new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);

/** Gives a snapshot an id. Throws `invalid-name`, `snapshot-exists`. */
async function naming(id: string, work: () => Promise<void>): Promise<void> {
  if (id === '' || id.startsWith('.') || !isVisible(id) || /[/@]/.test(id))
    throw new StowageError('invalid-name', `a snapshot cannot be named '${id}' here`);
  await work().catch((error) => {
    if (!isStowageError(error, 'volume-exists')) throw error;
    throw new StowageError('snapshot-exists', `the snapshot ${id} exists already`);
  });
}
