import { createHash } from 'node:crypto';
import { readdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { NewVolume, Representation } from '../../../shared/conf/volume.ts';
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
import { writeMark } from '../../host/devices.ts';
import { exists, setPermissions, statIfExists } from '../../host/files.ts';
import { copyDevice } from '../../images/copy.ts';
import { FileImage } from '../../images/file-image.ts';
import { openIdentities } from '../identities.ts';
import { StorageNote } from '../storage-note.ts';
import { BlockStage } from './block-stage.ts';
import { type Device, type DeviceStorage, refuseLoss } from './device-storage.ts';
import { HiddenNames } from './hidden-names.ts';

/** The mark of a device that is not active. */
const INACTIVE = 'inactive';

/**
 * A pool whose volumes are the block devices of one storage, each the raw image of what its guest sees. What is being made has
 * a hidden name, and is renamed when it is done: a kill leaves the old state or the new one. New volumes read as zeros.
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
    this.#hidden = new HiddenNames(poolUuid);
  }

  // ---- life ----

  async build(overwrite?: boolean): Promise<void> {
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
      const volume = await describe(device);
      const before = known(device.name);
      const unchanged = before?.fingerprint === volume.fingerprint && before.stamp === volume.stamp;
      found.push(unchanged ? { name: device.name, unchanged } : volume);
    }
    yield found;
  }

  async look(name: string): Promise<FoundVolume | undefined> {
    const [device] = await this.#storage.devices(name);
    if (!device || name.startsWith('.')) return undefined;
    // What somebody wrote and the kernel still holds back counts as written.
    if (device.number) await settle(device.path);
    return describe(device);
  }

  /** The device of a volume, active; not another one that has its name meanwhile. */
  async #device({ name, fingerprint }: Pick<FoundVolume, 'name' | 'fingerprint'>): Promise<Device> {
    const [device] = await this.#storage.devices(name);
    if (device?.uid !== fingerprint)
      throw new StowageError('volume-not-found', `the pool has no volume '${name}' any more`);
    if (!device.number) await this.#storage.activate(name);
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
    fill: (image: FileImage) => Promise<void>,
    permissions?: NewVolume['permissions'],
  ): Promise<void> {
    await this.#refuseExisting(name);
    using hidden = this.#hidden.scratch();
    await this.#storage.create(hidden.name, sizeBytes);
    try {
      const [device] = await this.#storage.devices(hidden.name);
      if (!device) throw new StowageError('io-error', `the new device of '${name}' is not there`);
      {
        await using image = await FileImage.open(device.path, 'write', 'block');
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
    // The path is a link to the device's node.
    if (device && permissions) await setPermissions(await realpath(device.path), permissions);
  }

  async create(volume: NewVolume, identify: Identify, signal?: AbortSignal): Promise<void> {
    const { name, capacityBytes, format, permissions } = volume;
    refuseFormat(format);
    return this.#make(name, capacityBytes, identify, (image) => image.zeroFrom(0, signal), permissions);
  }

  async clone(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void> {
    const source = await this.#device(volume);
    await using from = await FileImage.open(source.path, 'read', 'block');
    await this.#make(target, source.sizeBytes, identify, async (image) => {
      await copyDevice(from, image, signal);
      await image.zeroFrom(from.sizeBytes, signal);
    });
  }

  async remove(volume: FoundVolume, mark?: string): Promise<void> {
    const device = await this.#device(volume);
    // Of what was not active nobody can tell whether it was changed.
    if (mark !== undefined && (mark === INACTIVE || (await describe(device)).mark !== mark))
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
    await using image = await FileImage.open(device.path, 'write', 'block');
    await overwrite(image, algorithm, signal);
  }

  // ---- moving bytes ----

  async activate(volume: FoundVolume): Promise<boolean> {
    if (volume.mark !== INACTIVE) return false;
    await this.#device(volume);
    return true;
  }

  async open(volume: FoundVolume, _as: Representation): Promise<OpenVolume> {
    const device = await this.#device(volume);
    const image = await FileImage.open(device.path, 'read', 'block');
    return {
      parts: [{ name: '', sizeBytes: image.sizeBytes, dense: false }],
      sources: [image],
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

const taken = (name: string): StowageError =>
  new StowageError('volume-exists', `the pool has a volume '${name}' already`);

async function settle(path: string): Promise<void> {
  await using image = await FileImage.open(path, 'read', 'block');
  await image.flush();
}

async function describe(device: Device): Promise<FoundVolume> {
  const { name, uid, path, number, sizeBytes, allocationBytes, backingStore, damaged } = device;
  const written = number && (await writeMark(number.major, number.minor));
  const node = number && (await statIfExists(path));
  const mark = written ?? INACTIVE;
  return {
    name,
    type: 'block',
    format: 'raw',
    path,
    capacityBytes: sizeBytes,
    allocationBytes,
    snapshotCount: 0,
    permissions: node && { mode: node.mode & 0o777, owner: node.uid, group: node.gid },
    backingStore,
    damaged,
    fingerprint: uid,
    mark,
    stamp: [
      mark,
      sizeBytes,
      allocationBytes,
      backingStore?.path,
      damaged,
      node?.mode,
      node?.uid,
      node?.gid,
    ].join(),
  };
}
