import type { Snapshot } from '../../../shared/conf/volume.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import { waitForNode } from '../../volumes/blocks/device-node.ts';
import type { Device, DeviceSnapshots } from '../../volumes/blocks/device-storage.ts';
import { SharedReading } from '../../volumes/blocks/shared-reading.ts';
import { type Dataset, zfs } from './zfs.ts';

const ID = /^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}$/;

/** The snapshot that makes a base of a volume; no snapshot that people see. */
export const OF_BASE = '@__base__';

export const isOfBase = (name: string): boolean => name.endsWith(OF_BASE);

/** Snapshots of datasets, oldest first. */
export class ZfsSnapshots implements DeviceSnapshots {
  readonly #at: (name: string) => string;
  readonly #of: (name: string) => Promise<Dataset[]>;
  readonly #changed: (name: string) => Promise<void>;
  readonly #clone: (snapshot: string, name: string) => Promise<void>;
  readonly #readers = new SharedReading();

  /**
   * `at` gives the whole name of a volume, `of` it and its snapshots; `changed` is called when one was rolled back, `clone` makes a volume of a
   * snapshot.
   */
  constructor(
    at: (name: string) => string,
    of: (name: string) => Promise<Dataset[]>,
    changed: (name: string) => Promise<void>,
    clone: (snapshot: string, name: string) => Promise<void>,
  ) {
    this.#at = at;
    this.#of = of;
    this.#changed = changed;
    this.#clone = clone;
  }

  async #all(device: Device): Promise<{ id: string; guid: string; usedBytes: number }[]> {
    const prefix = `${this.#at(device.name)}@`;
    return (await this.#of(device.name))
      .filter(({ name }) => name.startsWith(prefix) && !isOfBase(name))
      .map(({ name, guid = '', used }) => ({
        ...{ id: name.slice(prefix.length), guid },
        usedBytes: Number(used),
      }));
  }

  async markOf(device: Device, id: string): Promise<string> {
    const found = (await this.#all(device)).find((snapshot) => snapshot.id === id);
    if (!found) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
    return found.guid;
  }

  /** Its node is there for as long as somebody reads it: one for each snapshot of each volume would be many. */
  open(device: Device, id: string): Promise<Image> {
    const volume = this.#at(device.name);
    const path = `/dev/zvol/${volume}@${id}`;
    return this.#readers.open(volume, {
      async prepare() {
        const { stdout } = await zfs('zfs', 'get', '-Hp', '-o', 'value', 'snapdev', volume);
        if (stdout.trim() === 'visible') return async () => undefined;
        await zfs('zfs', 'set', 'snapdev=visible', volume);
        return async () => void (await zfs('zfs', 'inherit', 'snapdev', volume));
      },
      async open() {
        await waitForNode(path);
        return FileImage.open(path, 'read', 'thin');
      },
    });
  }

  /** Those that are newer than one. Throws `snapshot-not-found`. */
  async #after(device: Device, id: string): Promise<string[]> {
    const ids = (await this.#all(device)).map((snapshot) => snapshot.id);
    if (!ids.includes(id)) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
    return ids.slice(ids.indexOf(id) + 1);
  }

  async list(device: Device): Promise<Snapshot[]> {
    const all = await this.#all(device);
    return all.map(({ id, guid, usedBytes }) => ({ id, current: false, allocationBytes: usedBytes, guid }));
  }

  async create(device: Device, id: string): Promise<void> {
    await naming(id, () => zfs('zfs', 'snapshot', `${this.#at(device.name)}@${id}`));
  }

  async rename(device: Device, id: string, to: string): Promise<void> {
    await this.#after(device, id);
    const snapshot = `${this.#at(device.name)}@`;
    await naming(to, () => zfs('zfs', 'rename', `${snapshot}${id}`, `${snapshot}${to}`));
  }

  async clone(device: Device, id: string, name: string): Promise<void> {
    await this.#after(device, id);
    await this.#clone(`${this.#at(device.name)}@${id}`, name);
  }

  async switch(device: Device, id: string): Promise<void> {
    const newer = await this.#after(device, id);
    if (newer.length > 0)
      throw new StowageError(
        'volume-has-snapshots',
        `ZFS goes back to the last snapshot only: ${newer.slice(0, 5).join(', ')} would be lost; delete them first`,
      );
    await zfs('zfs', 'rollback', `${this.#at(device.name)}@${id}`);
    await this.#changed(device.name);
  }

  async delete(device: Device, id: string): Promise<void> {
    await this.#after(device, id);
    await zfs('zfs', 'destroy', `${this.#at(device.name)}@${id}`).catch((error) => {
      if (!isStowageError(error, 'volume-has-snapshots')) throw error;
      throw new StowageError('volume-in-use', `other volumes stand on the snapshot ${id}`);
    });
  }
}

/** Gives a snapshot an id. Throws `invalid-name`, `snapshot-exists`. */
async function naming(id: string, work: () => Promise<unknown>): Promise<void> {
  if (!ID.test(id) || isOfBase(`@${id}`))
    throw new StowageError('invalid-name', `a snapshot cannot be named '${id}' here`);
  await work().catch((error) => {
    if (!isStowageError(error, 'volume-exists')) throw error;
    throw new StowageError('snapshot-exists', `the snapshot ${id} exists already`);
  });
}
