import pLimit from 'p-limit';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { type ImageFormatName, imageFormatNamed } from '../../formats/index.ts';
import type { Image } from '../../images/image.ts';
import {
  type Device,
  type DeviceMode,
  type DeviceSnapshots,
  type MakingStorage,
  refuseLoss,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { cell, ceph, checked } from './librbd.ts';
import { RbdImage } from './rbd-image.ts';
import { CHANGED, isVisible, RbdSnapshots } from './rbd-snapshots.ts';
import { ReadSnapshots } from './read-snapshots.ts';

/** Where an image keeps what it holds. */
const FORMAT = 'stowage.format';
/** Images looked at side by side. */
const LOOKS = 16;

/** One pool of a Ceph cluster, whose RBD images are the volumes. */
export class RbdPool implements MakingStorage {
  readonly type = 'network';
  readonly readsAsZeros = true;
  readonly name: string;
  readonly #options: ClusterOptions;
  /** Whether a look counts what an image takes, which costs by its size, or takes its capacity for that. */
  readonly #countsAllocation: boolean;
  #connecting: Promise<Cluster> | undefined;
  #id: string | undefined;
  readonly #reads: ReadSnapshots;
  readonly snapshots: DeviceSnapshots = new RbdSnapshots((device, mode, work) =>
    this.#with(device.name, mode, work),
  );

  /** `owner` tells the snapshots that this pool reads by from those of other hosts. */
  constructor(options: ClusterOptions, owner: string, countsAllocation: boolean) {
    this.#reads = new ReadSnapshots(owner);
    this.name = options.namespace ? `${options.pool}/${options.namespace}` : options.pool;
    this.#options = options;
    this.#countsAllocation = countsAllocation;
  }

  async #cluster(): Promise<Cluster> {
    this.#connecting ??= Cluster.connect(this.#options).catch((error) => {
      this.#connecting = undefined;
      if (isStowageError(error, 'volume-not-found'))
        throw new StowageError(
          'pool-inaccessible',
          `there is no pool '${this.#options.pool}' in the cluster`,
        );
      throw error;
    });
    const cluster = await this.#connecting;
    if (this.#id !== undefined && cluster.id !== this.#id)
      throw new StowageError('pool-inaccessible', `${this.name} is another pool than it was`);
    return cluster;
  }

  async attach(id: string): Promise<void> {
    this.#id = id;
  }

  async detach(): Promise<void> {
    const cluster = await this.#connecting?.catch(() => undefined);
    this.#connecting = undefined;
    if (cluster) await RbdImage.closeAll(cluster.io);
    await cluster?.[Symbol.asyncDispose]();
  }

  async space(): Promise<Space & { id: string }> {
    const cluster = await this.#cluster();
    return { id: cluster.id, ...(await cluster.space()) };
  }

  async devices(name?: string): Promise<Device[]> {
    const cluster = await this.#cluster();
    if (name !== undefined) {
      const found = await this.#look(cluster, name);
      return found ? [found] : [];
    }
    const limit = pLimit(LOOKS);
    const looks = (await cluster.list()).map((image) =>
      limit(async () => {
        try {
          return await this.#look(cluster, image.name);
        } catch (error) {
          // One image that cannot be opened is damaged; that the cluster does not answer concerns all.
          if (!isStowageError(error, 'io-error')) throw error;
          return damaged(image, this.#pathOf(image.name), error);
        }
      }),
    );
    return (await Promise.all(looks)).filter((device) => device !== undefined);
  }

  #pathOf(name: string): string {
    return `${this.name}/${name}`;
  }

  async #look({ io }: Cluster, name: string): Promise<Device | undefined> {
    const opened = await RbdImage.open(io, name, 'read').catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      return undefined;
    });
    if (!opened) return undefined;
    await using image = opened;
    const { sizeBytes } = image;
    const [uid, modified, watchers, snapshots, parent, allocationBytes, format, changed = ''] =
      await Promise.all([
        image.id(),
        image.modified(),
        image.watchers(),
        image.snapshots(),
        image.parent(),
        this.#countsAllocation ? image.allocationBytes() : sizeBytes,
        image.metadata(FORMAT),
        image.metadata(CHANGED),
      ]);
    await this.#reads.removeLeftovers(io, name, snapshots);
    return {
      name,
      uid,
      format: imageFormatNamed(format),
      path: this.#pathOf(name),
      mark: `${modified}.${sizeBytes}.${changed.slice(0, 8)}`,
      sizeBytes,
      allocationBytes,
      open: watchers > 0,
      dependants: [],
      snapshotCount: snapshots.filter(isVisible).length,
      backingStore: parent === undefined ? undefined : { path: parent, format: 'raw' },
    };
  }

  checkName(name: string): void {
    if (/[/@]/.test(name))
      throw new StowageError('invalid-name', `an image of Ceph cannot be named '${name}': no / and no @`);
  }

  /**
   * For reading a snapshot is taken and read, which goes when the image is closed: what is read is one state, whoever writes
   * meanwhile.
   */
  async open({ name }: Device, mode: DeviceMode): Promise<Image> {
    const { io } = await this.#cluster();
    if (mode === 'read') return this.#reads.open(io, name);
    return RbdImage.open(io, name, mode === 'write' ? 'write' : 'read');
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    const { io } = await this.#cluster();
    const options = cell();
    ceph().newOptions(options.buffer);
    try {
      checked(await ceph().createImage(io, name, sizeBytes, options.value), `making the image '${name}'`);
    } finally {
      ceph().freeOptions(options.value);
    }
    // Whoever writes to it tells of it within a second, and not, as is usual, once a minute.
    await this.#with(name, 'write', (image) => image.setMetadata('conf_rbd_mtime_update_interval', '1'));
  }

  async #with<T>(name: string, mode: 'read' | 'write', work: (image: RbdImage) => Promise<T>): Promise<T> {
    await using image = await RbdImage.open((await this.#cluster()).io, name, mode);
    return await work(image);
  }

  async setFormat({ name }: Device, format: ImageFormatName): Promise<void> {
    await this.#with(name, 'write', (image) => image.setMetadata(FORMAT, format));
  }

  async grow(device: Device, sizeBytes: number): Promise<void> {
    await this.#with(device.name, 'write', (image) => image.resize(sizeBytes));
  }

  async shrink(device: Device, sizeBytes: number): Promise<void> {
    await this.#with(device.name, 'write', (image) => image.resize(sizeBytes));
  }

  async rename(from: string, to: string): Promise<void> {
    const { io } = await this.#cluster();
    checked(await ceph().renameImage(io, from, to), `renaming the image '${from}' to '${to}'`);
  }

  async remove(name: string): Promise<void> {
    const { io } = await this.#cluster();
    for (const device of await this.devices(name)) refuseLoss(device);
    await this.#with(name, 'write', async (image) => {
      const snapshots = await image.snapshots();
      // Before any of them goes: a refusal takes none.
      for (const snapshot of snapshots)
        if (await image.isProtected(snapshot.name))
          throw new StowageError(
            'volume-has-snapshots',
            `the snapshot '${snapshot.name}' of '${name}' is protected: clones may stand on it; 'rbd snap unprotect' it first`,
          );
      for (const snapshot of snapshots) await image.removeSnapshot(snapshot.name);
    });
    checked(await ceph().removeImage(io, name), `removing the image '${name}'`);
  }
}

const damaged = (image: { name: string; id: string }, path: string, error: unknown): Device => ({
  name: image.name,
  uid: image.id,
  path,
  sizeBytes: 0,
  allocationBytes: 0,
  open: false,
  dependants: [],
  damaged: error instanceof Error ? error.message : String(error),
});
