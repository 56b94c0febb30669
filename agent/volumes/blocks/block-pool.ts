import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding, NewVolume, Representation, Snapshot } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { cut, StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { Revert } from '../../../shared/util/revert.ts';
import type {
  Found,
  FoundVolume,
  HostServices,
  Identify,
  IdentityStore,
  Known,
  OpenVolume,
  PoolDriver,
  Space,
  Stage,
  StageSpec,
} from '../../backends/backend.ts';
import { type ImageFormat, refuseShrink } from '../../formats/format.ts';
import { IMAGE_FORMATS, type ImageFormatName, isImageFormat, probeFormat } from '../../formats/index.ts';
import { overwrite, type WipeAlgorithm } from '../../formats/wipe.ts';
import { exists } from '../../host/files.ts';
import { copyToNew } from '../../images/copy.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { openIdentities } from '../identities.ts';
import { StorageNote } from '../storage-note.ts';
import { BlockStage } from './block-stage.ts';
import { type Device, type DeviceStorage, refuseLoss, refuseOpen } from './device-storage.ts';
import { HiddenNames } from './hidden-names.ts';
import { imageFormat } from './image-format.ts';

/** The mark of a device of which it cannot be told what was written to it. */
const INACTIVE = 'inactive';

/** Snapshots of one volume. */
interface Bound {
  list(): Promise<Snapshot[]>;
  create(id: string): Promise<void>;
  switch(id: string): Promise<void>;
  delete(id: string, signal?: AbortSignal): Promise<void>;
}

/**
 * A pool whose volumes are the devices of one storage, each an image: raw, or in a format that can lie in a device of fixed size.
 * What is being made has a hidden name, and is renamed when it is done: a kill leaves the old state or the new one. New volumes
 * read as zeros.
 */
export class BlockPool implements PoolDriver {
  readonly #storage: DeviceStorage;
  readonly #host: HostServices;
  readonly #note: StorageNote;
  readonly #hidden: HiddenNames;
  #storageId: string | undefined;

  constructor(storage: DeviceStorage, host: HostServices, poolUuid: string) {
    this.#storage = storage;
    this.#host = host;
    this.#note = new StorageNote(() => host.stateDirectory());
    this.#hidden = new HiddenNames(`${host.agentId} ${poolUuid}`);
  }

  // ---- life ----

  async build(overwrite?: boolean): Promise<void> {
    if (!this.#storage.build) throw unsupported('build');
    await this.#storage.build(overwrite);
    await this.#note.forget();
  }

  async start(): Promise<void> {
    const { id } = await this.#storage.space();
    await this.#note.check(this.#storage.name, id);
    await this.#storage.attach(id);
    await this.#note.set(this.#storage.name, id);
    this.#storageId = id;
    await this.#removeLeftovers();
  }

  /** One that somebody has open is tried again at the next start. */
  async #removeLeftovers(): Promise<void> {
    for (const { name } of await this.#storage.devices())
      if (this.#hidden.isLeftover(name)) await this.#storage.remove(name).catch(() => undefined);
  }

  stop(): Promise<void> {
    return this.#storage.detach();
  }

  async delete(): Promise<void> {
    if (!this.#storage.destroy) throw unsupported('delete');
    await this.#removeLeftovers();
    const [device, ...more] = await this.#storage.devices();
    if (device)
      throw new StowageError(
        'pool-not-empty',
        `${this.#storage.name} still holds ${more.length + 1} volumes, such as '${device.name}'`,
      );
    await this.#storage.destroy();
    await this.#note.forget();
  }

  async space(): Promise<Space> {
    const { id, ...space } = await this.#storage.space();
    if (id !== this.#storageId)
      throw new StowageError('pool-inaccessible', `${this.#storage.name} is another storage than it was`);
    return space;
  }

  async identities(): Promise<IdentityStore> {
    return openIdentities(join(await this.#host.stateDirectory(), 'identities.log'));
  }

  idOf(fingerprint: string): string {
    const hash = createHash('sha256').update(`${this.#storageId} ${fingerprint}`).digest('hex');
    // Version 8 of RFC 9562: made of a hash as its maker likes.
    return `${hash.slice(0, 8)}-${hash.slice(8, 12)}-8${hash.slice(13, 16)}-8${hash.slice(17, 20)}-${hash.slice(20, 32)}`;
  }

  // ---- looking ----

  async *list(known: (name: string) => Known | undefined, signal?: AbortSignal): AsyncGenerator<Found[]> {
    const found: Found[] = [];
    for (const device of await this.#storage.devices()) {
      signal?.throwIfAborted();
      if (device.name.startsWith('.')) continue;
      const before = known(device.name);
      const unchanged = before?.fingerprint === device.uid && before.stamp === stampOf(device);
      found.push(unchanged ? { name: device.name, unchanged } : await this.#describe(device, before));
    }
    yield found;
  }

  async #describe(device: Device, known?: Known): Promise<FoundVolume> {
    const { name, uid, path, mark = INACTIVE, sizeBytes, allocationBytes } = device;
    const { snapshotCount = 0, permissions, backingStore } = device;
    return {
      name,
      type: this.#storage.type,
      path,
      format: 'raw',
      capacityBytes: sizeBytes,
      allocationBytes,
      snapshotCount,
      permissions,
      backingStore,
      damaged: device.damaged,
      fingerprint: uid,
      mark,
      stamp: stampOf(device),
      ...(await this.#contentFacts(device, known)),
    };
  }

  /** What the bytes of a device tell of the volume. */
  async #contentFacts(device: Device, known: Known | undefined): Promise<Partial<FoundVolume>> {
    const onRecord = known?.fingerprint === device.uid ? known.format : undefined;
    const format = device.format ?? onRecord ?? (this.#storage.probes ? undefined : 'raw');
    if (format === 'raw' || device.damaged !== undefined || device.mark === undefined) return {};
    try {
      await using image = await this.#storage.open(device, 'glance');
      const found = format ?? (await probe(image));
      if (found === 'raw' || !isImageFormat(found)) return {};
      const { snapshotCount, ...facts } = await IMAGE_FORMATS[found].facts(image);
      return { format: found, ...facts, snapshotCount: (device.snapshotCount ?? 0) + snapshotCount };
    } catch (error) {
      const damaged = cut(toStowageError(error).message, 500);
      return { format: format ?? 'unknown', capacityBytes: 0, damaged };
    }
  }

  async look(name: string, known?: Known): Promise<FoundVolume | undefined> {
    const [device] = await this.#storage.devices(name);
    if (!device || name.startsWith('.')) return undefined;
    return this.#describe(await this.#settled(device), known);
  }

  /** A device, with what somebody wrote and the kernel still holds back counted as written. */
  async #settled(device: Device): Promise<Device> {
    if (device.mark === undefined || !this.#storage.settledMark) return device;
    return { ...device, mark: await this.#storage.settledMark(device) };
  }

  /** The device of a volume, active; not another one that has its name meanwhile. */
  async #device({ name, fingerprint }: Pick<FoundVolume, 'name' | 'fingerprint'>): Promise<Device> {
    const [device] = await this.#storage.devices(name);
    if (device?.uid !== fingerprint)
      throw new StowageError('volume-not-found', `the pool has no volume '${name}' any more`);
    if (device.mark === undefined) await this.#storage.activate?.(name);
    return device;
  }

  // ---- working on a volume ----

  async #refuseExisting(name: string): Promise<void> {
    this.#storage.checkName(name);
    if ((await this.#storage.devices(name)).length > 0) throw taken(name);
  }

  /** Makes a device under a hidden name, lets `fill` make its content, and gives it its name. */
  async #make(
    wanted: Pick<NewVolume, 'name' | 'format' | 'permissions'>,
    sizeBytes: number,
    identify: Identify,
    fill: (image: Image) => Promise<void>,
  ): Promise<void> {
    const { name, format, permissions } = wanted;
    await this.#refuseExisting(name);
    using hidden = this.#hidden.scratch();
    await this.#storage.create(hidden.name, sizeBytes);
    try {
      const [device] = await this.#storage.devices(hidden.name);
      if (!device) throw new StowageError('io-error', `the new device of '${name}' is not there`);
      {
        await using image = await this.#storage.open(device, 'write');
        await fill(image);
        await image.flush();
      }
      if (format !== 'raw' && isImageFormat(format)) await this.#storage.setFormat?.(device, format);
      await identify(device.uid);
      await this.#storage.rename(hidden.name, name);
    } catch (error) {
      await this.#storage.remove(hidden.name).catch(() => undefined);
      throw error;
    }
    const [device] = permissions ? await this.#storage.devices(name) : [];
    if (device && permissions) await this.#storage.setPermissions?.(device, permissions);
  }

  async create(volume: NewVolume, identify: Identify, signal?: AbortSignal): Promise<void> {
    const { capacityBytes, permissions, preallocate, qcow2 } = volume;
    const driver = imageFormat(volume.format);
    if (permissions && !this.#storage.setPermissions)
      throw new StowageError('not-supported', 'volumes of this storage have no owner and no mode');
    const sizeBytes = driver.mostBytes(capacityBytes, qcow2);
    const reserve = preallocate && driver.plain;
    const { availableBytes } = reserve ? await this.space() : { availableBytes: sizeBytes };
    if (sizeBytes > availableBytes)
      throw new StowageError(
        'no-space',
        `the volume needs ${sizeBytes} bytes, the pool has ${availableBytes} left`,
      );
    await this.#make(volume, sizeBytes, identify, async (image) => {
      if (reserve || !this.#storage.readsAsZeros) await zeroFrom(image, 0, { dense: reserve, signal });
      await driver.create(image, volume, signal);
    });
  }

  async clone(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void> {
    const source = await this.#device(volume);
    if (this.#storage.clone) return this.#share(source, target, identify);
    await using from = await this.#storage.open(source, 'read');
    const { name: format } = imageFormat(volume.format);
    await this.#make({ name: target, format }, source.sizeBytes, identify, async (image) => {
      await copyToNew(from, image, signal);
      if (!this.#storage.readsAsZeros) await zeroFrom(image, from.sizeBytes, { signal });
    });
  }

  /** A clone that the storage itself makes. */
  async #share(source: Device, target: string, identify: Identify): Promise<void> {
    await this.#refuseExisting(target);
    using hidden = this.#hidden.scratch();
    await this.#storage.clone?.(source, hidden.name);
    try {
      const [device] = await this.#storage.devices(hidden.name);
      if (!device) throw new StowageError('io-error', `the new device of '${target}' is not there`);
      await identify(device.uid);
      await this.#storage.rename(hidden.name, target);
    } catch (error) {
      await this.#storage.remove(hidden.name).catch(() => undefined);
      throw error;
    }
  }

  async remove(volume: FoundVolume, mark?: string): Promise<void> {
    const device = await this.#device(volume);
    // Of what was not active nobody can tell whether it was changed.
    if (mark !== undefined && (mark === INACTIVE || (await this.#settled(device)).mark !== mark))
      throw new StowageError(
        'volume-changed',
        `volume '${volume.name}' was changed since it was read; it stays`,
      );
    refuseLoss(device);
    await this.#storage.remove(volume.name);
  }

  async resize(
    volume: FoundVolume,
    capacityBytes: number,
    shrink: boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    const device = await this.#device(volume);
    const driver = imageFormat(volume.format);
    refuseShrink(volume.capacityBytes, capacityBytes, shrink);
    if (!driver.plain) return this.#resizeInside(device, driver, volume, capacityBytes, signal);
    if (capacityBytes >= device.sizeBytes) return this.#grow(device, capacityBytes, signal);
    refuseLoss(device);
    await this.#storage.shrink(device, capacityBytes);
  }

  async #grow(device: Device, sizeBytes: number, signal?: AbortSignal): Promise<void> {
    using scratch = this.#hidden.scratch();
    await this.#storage.grow(device, sizeBytes, scratch.name, signal);
  }

  /** An image with tables: the device gets the room first that the larger one may need. */
  async #resizeInside(
    device: Device,
    driver: ImageFormat,
    volume: FoundVolume,
    capacityBytes: number,
    signal?: AbortSignal,
  ): Promise<void> {
    if (capacityBytes < volume.capacityBytes)
      throw new StowageError('not-supported', `a ${driver.name} image in a device is not made smaller`);
    const sizeBytes = driver.mostBytes(capacityBytes, volume);
    if (sizeBytes > device.sizeBytes) await this.#grow(device, sizeBytes, signal);
    const [grown = device] = await this.#storage.devices(device.name);
    await using image = await this.#storage.open(grown, 'write');
    await driver.resize(image, capacityBytes, false, signal);
  }

  async wipe(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    _identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    const device = await this.#device(volume);
    refuseLoss(device);
    const driver = imageFormat(volume.format);
    if (!driver.plain && volume.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not wiped; delete them first',
      );
    await using image = await this.#storage.open(device, 'write');
    signal?.throwIfAborted();
    try {
      await overwrite(image, algorithm, signal);
    } finally {
      // Whatever came of it, an empty volume is there again.
      if (!driver.plain) await driver.create(image, { ...emptyOf(volume), format: driver.name });
    }
  }

  // ---- snapshots ----

  /** Those of the storage; where it has none, those inside the image. */
  async #snapshots<T>(
    volume: FoundVolume,
    mode: 'read' | 'write',
    work: (snapshots: Bound) => Promise<T>,
  ): Promise<T> {
    const device = await this.#device(volume);
    const { snapshots } = this.#storage;
    if (snapshots)
      return work({
        list: () => snapshots.list(device),
        create: (id) => snapshots.create(device, id),
        switch: (id) => snapshots.switch(device, id),
        delete: (id) => snapshots.delete(device, id),
      });
    const driver = imageFormat(volume.format);
    const inside = driver.snapshots;
    if (!inside)
      throw new StowageError('not-supported', `volumes of format ${driver.name} have no snapshots here`);
    await using image = await this.#storage.open(device, mode);
    return await work({
      list: () => inside.list(image),
      create: async (id) => void (await inside.create(image, id)),
      switch: (id) => inside.switch(image, id),
      delete: (id, signal) => inside.delete(image, id, signal),
    });
  }

  listSnapshots(volume: FoundVolume): Promise<Snapshot[]> {
    return this.#snapshots(volume, 'read', (snapshots) => snapshots.list());
  }

  async createSnapshot(volume: FoundVolume, id = `snapshot-${clock.now()}`): Promise<string> {
    await this.#snapshots(volume, 'write', (snapshots) => snapshots.create(id));
    return id;
  }

  async switchSnapshot(volume: FoundVolume, id: string): Promise<void> {
    refuseOpen(await this.#device(volume));
    await this.#snapshots(volume, 'write', (snapshots) => snapshots.switch(id));
  }

  deleteSnapshot(volume: FoundVolume, id: string, signal?: AbortSignal): Promise<void> {
    return this.#snapshots(volume, 'write', (snapshots) => snapshots.delete(id, signal));
  }

  async check(volume: FoundVolume, repair: boolean, signal?: AbortSignal): Promise<Finding[]> {
    const device = await this.#device(volume);
    const driver = imageFormat(volume.format);
    if (!driver.check)
      throw new StowageError(
        'not-supported',
        `volumes of format ${driver.name} hold nothing that could be checked`,
      );
    await using image = await this.#storage.open(device, repair ? 'write' : 'read');
    return await driver.check(image, repair, signal);
  }

  // ---- moving bytes ----

  async activate(volume: FoundVolume): Promise<boolean> {
    if (volume.mark !== INACTIVE) return false;
    await this.#device(volume);
    return true;
  }

  async open(volume: FoundVolume, as: Representation): Promise<OpenVolume> {
    const device = await this.#device(volume);
    const driver = imageFormat(volume.format);
    const image = await this.#storage.open(device, 'read');
    await using revert = new Revert();
    revert.push(() => image.close());
    const source = as === 'image' ? image : await driver.openContent(image, refuseBacking);
    revert.commit();
    return {
      parts: [{ name: '', sizeBytes: source.sizeBytes, dense: false }],
      sources: [source],
      isChanged: image.isChanged && (() => image.isChanged!()),
      async [Symbol.asyncDispose]() {
        if (source !== image) await source.close();
        await image.close();
      },
    };
  }

  async #stagesDirectory(): Promise<string> {
    return join(await this.#host.stateDirectory(), 'stages');
  }

  async stage(spec: StageSpec, text: string): Promise<Stage> {
    const [begun] = await this.stages(spec.id);
    if (begun) return begun;
    imageFormat(spec.format);
    this.#storage.checkName(spec.volume);
    const [existing] = await this.#storage.devices(spec.volume);
    if (existing && !spec.replace) throw taken(spec.volume);
    if (existing) refuseLoss(existing);
    const directory = join(await this.#stagesDirectory(), spec.id);
    return BlockStage.begin(directory, this.#storage, this.#hidden, spec, text, clock.now());
  }

  async stages(id?: string): Promise<Stage[]> {
    const directory = await this.#stagesDirectory();
    const all = async () => ((await exists(directory)) ? readdir(directory) : []);
    const ids = id === undefined ? await all() : [id];
    const stages: Stage[] = [];
    for (const each of ids) {
      const resumed = BlockStage.resume(join(directory, each), this.#storage, this.#hidden);
      // Of all stages one that cannot be read hides no other; of the one that was asked for the error is the answer.
      const stage = id === undefined ? await resumed.catch(() => undefined) : await resumed;
      if (stage) stages.push(stage);
    }
    return stages;
  }

  async dropStage(id: string): Promise<void> {
    await BlockStage.drop(join(await this.#stagesDirectory(), id), this.#storage, this.#hidden);
  }
}

/** Changes with anything that a look at a device would tell. */
function stampOf(device: Device): string {
  const { mark, sizeBytes, allocationBytes, snapshotCount, backingStore, damaged, format, permissions } =
    device;
  const { mode, owner, group } = permissions ?? {};
  return JSON.stringify([
    mark,
    sizeBytes,
    allocationBytes,
    snapshotCount,
    backingStore?.path,
    damaged,
    format,
    mode,
    owner,
    group,
  ]);
}

async function probe(image: Image): Promise<ImageFormatName> {
  const head = Buffer.alloc(Math.min(4096, image.sizeBytes));
  await image.read(head, 0);
  return probeFormat(head);
}

/** What a volume was made with, for an empty one in its place. */
function emptyOf({ name, capacityBytes, compat, clusterBytes, features = [] }: FoundVolume) {
  return { name, capacityBytes, preallocate: false, qcow2: { compat, clusterBytes, features } };
}

async function refuseBacking(): Promise<never> {
  throw new StowageError(
    'not-supported',
    'the content of an image that stands on another one cannot be read here',
  );
}

const unsupported = (what: string): StowageError =>
  new StowageError('not-supported', `storage pool doesn't support ${what}`);

const taken = (name: string): StowageError =>
  new StowageError('volume-exists', `the pool has a volume '${name}' already`);
