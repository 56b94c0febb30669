import pLimit from 'p-limit';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { type ImageFormatName, imageFormatNamed } from '../../formats/index.ts';
import type { Image } from '../../images/image.ts';
import {
  type Device,
  type DeviceId,
  type DeviceMode,
  type DeviceSnapshots,
  type MakingStorage,
  refuseLoss,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { ceph, checked } from './librbd.ts';
import { cell } from './memory.ts';
import { RbdImage } from './rbd-image.ts';
import { CHANGED, isVisible, OF_BASE, RbdSnapshots } from './rbd-snapshots.ts';
import { openSnapshot, ReadSnapshots } from './read-snapshots.ts';

/** Where an image keeps what it holds. */
const FORMAT = 'stowage.format';
/** Images looked at side by side. */
const LOOKS = 16;

/** One pool of a Ceph cluster, whose RBD images are the volumes. */
export class RbdPool implements MakingStorage {
  readonly hasGlobalId = true;
  readonly type = 'network';
  readonly readsAsZeros = true;
  readonly name: string;
  readonly #options: ClusterOptions;
  /** Whether a look counts what an image takes, which costs by its size, or takes its capacity for that. */
  readonly #countsAllocation: boolean;
  #connecting: Promise<Cluster> | undefined;
  #id: string | undefined;
  readonly #reads: ReadSnapshots;
  readonly snapshots: DeviceSnapshots = new RbdSnapshots(
    (device, mode, work) => this.#with(device.uid, mode, work),
    async ({ uid }, snapshot) => openSnapshot(await this.#cluster(), uid, snapshot),
    ({ name: of }, snapshot, name) => this.#clone(of, snapshot, name),
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
    await cluster?.[Symbol.asyncDispose]();
  }

  async space(): Promise<Space & { id: string }> {
    const cluster = await this.#cluster();
    try {
      return { id: cluster.id, ...(await cluster.space()) };
    } catch (error) {
      // A pool that is gone may be there again under its name: that is for a new connection to see.
      if (isStowageError(error, 'pool-inaccessible')) await this.detach();
      throw error;
    }
  }

  async devices(name?: string): Promise<Device[]> {
    const cluster = await this.#cluster();
    if (name !== undefined) {
      const id = await cluster.idOf(name);
      return id === undefined ? [] : [await this.#look(cluster, { name, id })];
    }
    const limit = pLimit(LOOKS);
    const images = await cluster.list();
    return Promise.all(images.map((image) => limit(() => this.#look(cluster, image))));
  }

  #pathOf(name: string): string {
    return `${this.name}/${name}`;
  }

  /** One image that cannot be opened is damaged; that the cluster does not answer concerns all. */
  async #look(cluster: Cluster, listed: { name: string; id: string }): Promise<Device> {
    try {
      return await this.#facts(cluster, listed);
    } catch (error) {
      // Its header may be gone, or it may be being removed: the directory of the pool names it still.
      if (!isStowageError(error, 'io-error', 'volume-not-found')) throw error;
      return damaged(listed, this.#pathOf(listed.name), error);
    }
  }

  async #facts(cluster: Cluster, { name, id }: { name: string; id: string }): Promise<Device> {
    await using image = await RbdImage.open(cluster, id, 'read');
    const { sizeBytes } = image;
    const [modified, watchers, snapshots, parent, allocationBytes, format, changed = ''] = await Promise.all([
      image.modified(),
      image.watchers(),
      image.snapshots(),
      image.parent(),
      this.#countsAllocation ? image.allocationBytes() : sizeBytes,
      image.metadata(FORMAT),
      image.metadata(CHANGED),
    ]);
    await this.#reads.removeLeftovers(cluster, id, snapshots);
    return {
      name,
      uid: id,
      format: imageFormatNamed(format),
      path: this.#pathOf(name),
      mark: `${modified}.${sizeBytes}.${changed.slice(0, 8)}`,
      sizeBytes,
      allocationBytes,
      open: watchers > 0,
      dependants: [],
      snapshotCount: snapshots.filter(isVisible).length,
      isBase: snapshots.includes(OF_BASE),
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
  async open({ uid }: Device, mode: DeviceMode): Promise<Image> {
    const cluster = await this.#cluster();
    if (mode === 'read') return this.#reads.open(cluster, uid);
    return RbdImage.open(cluster, uid, mode === 'write' ? 'write' : 'read');
  }

  create(name: string, sizeBytes: number): Promise<void> {
    return this.#make(name, (io, options) => ceph().createImage(io, name, sizeBytes, options));
  }

  cloneLinked({ name: base }: DeviceId, name: string): Promise<void> {
    return this.#clone(base, OF_BASE, name);
  }

  #clone(of: string, snapshot: string, name: string): Promise<void> {
    return this.#make(name, (io, options) => ceph().cloneImage(io, of, snapshot, io, name, options));
  }

  async #make(name: string, make: (io: bigint, options: bigint) => Promise<number>): Promise<void> {
    const cluster = await this.#cluster();
    const options = cell();
    ceph().newOptions(options.buffer);
    try {
      checked(await cluster.use((io) => make(io, options.value)), `making the image '${name}'`);
    } finally {
      ceph().freeOptions(options.value);
    }
    // Whoever writes to it tells of it within a second, and not, as is usual, once a minute.
    await this.#named(name, (image) => image.setMetadata('conf_rbd_mtime_update_interval', '1'));
  }

  async setBase({ uid, name, isBase: now = false }: Device, isBase: boolean): Promise<void> {
    await this.#with(uid, 'write', async (image) => {
      if (isBase && !now) await image.createSnapshot(OF_BASE);
      const isProtected = (isBase || now) && (await image.isProtected(OF_BASE));
      if (isBase && !isProtected) await image.protectSnapshot(OF_BASE);
      if (!isBase && now) await this.#removeBase(name, image, isProtected);
    });
  }

  async #removeBase(name: string, image: RbdImage, isProtected: boolean): Promise<void> {
    if (isProtected)
      await image.unprotectSnapshot(OF_BASE).catch((error) => {
        if (!isStowageError(error, 'volume-in-use')) throw error;
        throw new StowageError('volume-has-clones', `other images stand on '${name}'`);
      });
    await image.removeSnapshot(OF_BASE);
  }

  async #named<T>(name: string, work: (image: RbdImage) => Promise<T>): Promise<T> {
    const id = await (await this.#cluster()).idOf(name);
    if (id === undefined) throw new StowageError('volume-not-found', `there is no image '${name}' any more`);
    return this.#with(id, 'write', work);
  }

  async #with<T>(id: string, mode: 'read' | 'write', work: (image: RbdImage) => Promise<T>): Promise<T> {
    await using image = await RbdImage.open(await this.#cluster(), id, mode);
    return await work(image);
  }

  async setFormat({ uid }: Device, format: ImageFormatName): Promise<void> {
    await this.#with(uid, 'write', (image) => image.setMetadata(FORMAT, format));
  }

  async grow({ uid }: Device, sizeBytes: number): Promise<void> {
    await this.#with(uid, 'write', (image) => image.resize(sizeBytes));
  }

  async shrink(device: Device, sizeBytes: number): Promise<void> {
    await this.grow(device, sizeBytes);
  }

  async rename(from: string, to: string): Promise<void> {
    const cluster = await this.#cluster();
    const renamed = await cluster.use((io) => ceph().renameImage(io, from, to));
    checked(renamed, `renaming the image '${from}' to '${to}'`);
  }

  async remove(name: string): Promise<void> {
    const cluster = await this.#cluster();
    for (const device of await this.devices(name)) refuseLoss(device);
    await this.#named(name, (image) => this.#removeSnapshots(name, image));
    checked(await cluster.use((io) => ceph().removeImage(io, name)), `removing the image '${name}'`);
  }

  /** All of them, or none: what refuses is asked before. */
  async #removeSnapshots(name: string, image: RbdImage): Promise<void> {
    const snapshots = await image.snapshots();
    const reading = this.#reads.readBy(snapshots);
    if (reading !== undefined)
      throw new StowageError('volume-in-use', `'${name}' is being read, by its snapshot '${reading}'`);
    const clones = snapshots.length > 0 ? await image.clones() : [];
    if (clones.length > 0)
      throw new StowageError(
        snapshots.includes(OF_BASE) ? 'volume-has-clones' : 'volume-has-snapshots',
        `other images were cloned of '${name}': ${clones.slice(0, 5).join(', ')}`,
      );
    for (const snapshot of snapshots.filter((each) => each !== OF_BASE))
      if (await image.isProtected(snapshot))
        throw new StowageError(
          'volume-has-snapshots',
          `the snapshot '${snapshot}' of '${name}' is protected: clones may stand on it; 'rbd snap unprotect' it first`,
        );
    for (const snapshot of snapshots)
      if (snapshot === OF_BASE) await this.#removeBase(name, image, await image.isProtected(snapshot));
      else await image.removeSnapshot(snapshot);
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
