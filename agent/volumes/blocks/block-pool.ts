import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { NewVolume, Representation, Snapshot } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
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
import { refuseShrink } from '../../formats/format.ts';
import { overwrite, type WipeAlgorithm } from '../../formats/wipe.ts';
import { exists } from '../../host/files.ts';
import { copyToNew } from '../../images/copy.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { openIdentities } from '../identities.ts';
import { StorageNote } from '../storage-note.ts';
import { BlockStage } from './block-stage.ts';
import {
  type Device,
  type DeviceSnapshots,
  type DeviceStorage,
  refuseLoss,
  refuseOpen,
} from './device-storage.ts';
import { HiddenNames } from './hidden-names.ts';

/** The mark of a device of which it cannot be told what was written to it. */
const INACTIVE = 'inactive';

/**
 * A pool whose volumes are the devices of one storage, each the raw image of what its guest sees. What is being made has a
 * hidden name, and is renamed when it is done: a kill leaves the old state or the new one. New volumes read as zeros.
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
      const volume = this.#describe(device);
      const before = known(device.name);
      const unchanged = before?.fingerprint === volume.fingerprint && before.stamp === volume.stamp;
      found.push(unchanged ? { name: device.name, unchanged } : volume);
    }
    yield found;
  }

  #describe(device: Device): FoundVolume {
    const { name, uid, path, mark = INACTIVE, sizeBytes, allocationBytes } = device;
    const { snapshotCount = 0, permissions, backingStore, damaged } = device;
    const { mode, owner, group } = permissions ?? {};
    return {
      name,
      type: this.#storage.type,
      format: 'raw',
      path,
      capacityBytes: sizeBytes,
      allocationBytes,
      snapshotCount,
      permissions,
      backingStore,
      damaged,
      fingerprint: uid,
      mark,
      stamp: JSON.stringify([
        mark,
        sizeBytes,
        allocationBytes,
        snapshotCount,
        backingStore?.path,
        damaged,
        mode,
        owner,
        group,
      ]),
    };
  }

  async look(name: string): Promise<FoundVolume | undefined> {
    const [device] = await this.#storage.devices(name);
    if (!device || name.startsWith('.')) return undefined;
    return this.#describe(await this.#settled(device));
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

  /** Makes a device under a hidden name, lets `fill` write all of it, and gives it its name. */
  async #make(
    name: string,
    sizeBytes: number,
    identify: Identify,
    fill: (image: Image) => Promise<void>,
    permissions?: NewVolume['permissions'],
  ): Promise<void> {
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
    const { name, capacityBytes, format, permissions, preallocate } = volume;
    refuseFormat(format);
    if (permissions && !this.#storage.setPermissions)
      throw new StowageError('not-supported', 'volumes of this storage have no owner and no mode');
    const { availableBytes } = preallocate ? await this.space() : { availableBytes: capacityBytes };
    if (capacityBytes > availableBytes)
      throw new StowageError(
        'no-space',
        `the volume needs ${capacityBytes} bytes, the pool has ${availableBytes} left`,
      );
    const fill = async (image: Image): Promise<void> => {
      if (preallocate || !this.#storage.readsAsZeros)
        await zeroFrom(image, 0, { dense: preallocate, signal });
    };
    return this.#make(name, capacityBytes, identify, fill, permissions);
  }

  async clone(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void> {
    const source = await this.#device(volume);
    if (this.#storage.clone) return this.#share(source, target, identify);
    await using from = await this.#storage.open(source, 'read');
    await this.#make(target, source.sizeBytes, identify, async (image) => {
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
    if (capacityBytes >= device.sizeBytes) {
      using scratch = this.#hidden.scratch();
      return await this.#storage.grow(device, capacityBytes, scratch.name, signal);
    }
    refuseShrink(device.sizeBytes, capacityBytes, shrink);
    refuseLoss(device);
    await this.#storage.shrink(device, capacityBytes);
  }

  async wipe(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    _identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    const device = await this.#device(volume);
    refuseLoss(device);
    await using image = await this.#storage.open(device, 'write');
    await overwrite(image, algorithm, signal);
  }

  // ---- snapshots ----

  get #snapshots(): DeviceSnapshots {
    if (this.#storage.snapshots) return this.#storage.snapshots;
    throw unsupported('snapshots');
  }

  async listSnapshots(volume: FoundVolume): Promise<Snapshot[]> {
    return this.#snapshots.list(await this.#device(volume));
  }

  async createSnapshot(volume: FoundVolume, id = `snapshot-${clock.now()}`): Promise<string> {
    await this.#snapshots.create(await this.#device(volume), id);
    return id;
  }

  async switchSnapshot(volume: FoundVolume, id: string): Promise<void> {
    const device = await this.#device(volume);
    refuseOpen(device);
    await this.#snapshots.switch(device, id);
  }

  async deleteSnapshot(volume: FoundVolume, id: string): Promise<void> {
    await this.#snapshots.delete(await this.#device(volume), id);
  }

  // ---- moving bytes ----

  async activate(volume: FoundVolume): Promise<boolean> {
    if (volume.mark !== INACTIVE) return false;
    await this.#device(volume);
    return true;
  }

  async open(volume: FoundVolume, _as: Representation): Promise<OpenVolume> {
    const device = await this.#device(volume);
    const image = await this.#storage.open(device, 'read');
    return {
      parts: [{ name: '', sizeBytes: image.sizeBytes, dense: false }],
      sources: [image],
      isChanged: image.isChanged && (() => image.isChanged!()),
      [Symbol.asyncDispose]: () => image.close(),
    };
  }

  async #stagesDirectory(): Promise<string> {
    return join(await this.#host.stateDirectory(), 'stages');
  }

  async stage(spec: StageSpec, text: string): Promise<Stage> {
    const [begun] = await this.stages(spec.id);
    if (begun) return begun;
    refuseFormat(spec.format);
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

function refuseFormat(format: NewVolume['format']): void {
  if (format !== 'raw')
    throw new StowageError(
      'not-supported',
      `this pool holds no volumes of format ${format}, only raw ones; the format raw converts it`,
    );
}

const unsupported = (what: string): StowageError =>
  new StowageError('not-supported', `storage pool doesn't support ${what}`);

const taken = (name: string): StowageError =>
  new StowageError('volume-exists', `the pool has a volume '${name}' already`);
