import { join } from 'node:path';
import type { ReceivedStream, SentStream } from '../../../shared/conf/stream.ts';
import type { WipedPart } from '../../../shared/conf/trash.ts';
import type { NewVolume } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../../shared/util/errors.ts';
import type {
  FoundOrphan,
  FoundVolume,
  HostServices,
  Identify,
  PoolDriver,
  Stage,
  StageSpec,
  StreamProgram,
} from '../../backends/backend.ts';
import { type ImageFormat, refuseShrink, type WantedVolume } from '../../formats/format.ts';
import { isImageFormat } from '../../formats/index.ts';
import { overwritePart } from '../../formats/wipe.ts';
import { copyToNew } from '../../images/copy.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { BlockStage } from './block-stage.ts';
import { DevicePool } from './device-pool.ts';
import {
  type Device,
  type DeviceId,
  type DeviceStreams,
  type MakingStorage,
  refuseLoss,
  refuseOpen,
  refuseReplacement,
  whenClosed,
} from './device-storage.ts';
import { HiddenNames } from './hidden-names.ts';
import { imageFormat } from './image-format.ts';
import { KeptDevices } from './kept-devices.ts';

/**
 * A pool of devices that can be made. What is being made has a hidden name, and is renamed when it is done: a kill leaves the old
 * state or the new one. New volumes read as zeros.
 */
export class BlockPool extends DevicePool<MakingStorage> implements PoolDriver {
  readonly #hidden: HiddenNames;
  readonly #kept: KeptDevices;
  /** The places of streams that are not over, by their ids. */
  readonly #streams = new Map<string, ReturnType<HiddenNames['scratch']>>();
  /** What streams that are not over bring up to date, by their ids. */
  readonly #onto = new Map<string, Device>();

  constructor(storage: MakingStorage, host: HostServices, poolUuid: string) {
    super(storage, host);
    this.#hidden = new HiddenNames(`${host.agentId} ${poolUuid}`);
    this.#kept = new KeptDevices(() => host.stateDirectory());
  }

  // ---- life ----

  async build(overwrite?: boolean): Promise<void> {
    if (!this.storage.build) throw unsupported('build');
    await this.storage.build(overwrite);
    await this.forgetStorage();
  }

  override async start(): Promise<void> {
    await super.start();
    await this.#removeLeftovers();
    await this.storage.streams?.endCut?.();
  }

  /** One that somebody has open is tried again at the next start. */
  async #removeLeftovers(): Promise<void> {
    for (const { name, uid } of await this.storage.devices())
      if (this.#hidden.isLeftover(name, uid)) await this.storage.remove(name).catch(() => undefined);
    for (const place of (await this.storage.streams?.places()) ?? [])
      if (this.#hidden.isLeftover(place)) await this.storage.streams?.drop(place).catch(() => undefined);
  }

  async delete(): Promise<void> {
    if (!this.storage.destroy) throw unsupported('delete');
    await this.#removeLeftovers();
    const [device, ...more] = await this.storage.devices();
    if (device)
      throw new StowageError(
        'pool-not-empty',
        `${this.storage.name} still holds ${more.length + 1} volumes, such as '${device.name}'`,
      );
    await this.storage.destroy();
    await this.forgetStorage();
  }

  // ---- working on a volume ----

  async #refuseExisting(name: string): Promise<void> {
    this.storage.checkName(name);
    if ((await this.storage.devices(name)).length > 0) throw taken(name);
  }

  /**
   * Makes a device under a hidden name, lets `fill` make its content, and gives it its name. After an error nothing of it is left, or
   * it is collected by the next start. What it was made `of` must be there still then, under its name.
   */
  async #make(
    { name, format }: Pick<NewVolume, 'name' | 'format'>,
    identify: Identify,
    make: (hiddenName: string) => Promise<void>,
    {
      fill,
      of,
    }: {
      fill?: (image: Image) => Promise<void>;
      of?: { device: DeviceId; asBase: boolean };
    } = {},
  ): Promise<void> {
    // Nothing is filled in vain; what is made at once is refused by its last step.
    if (fill) await this.#refuseExisting(name);
    else this.storage.checkName(name);
    using hidden = this.#hidden.scratch();
    try {
      await make(hidden.name);
      const [[device]] = await Promise.all([
        this.storage.devices(hidden.name),
        of && this.#requireSame(of.device, of.asBase),
      ]);
      if (!device) throw new StowageError('io-error', `the new device of '${name}' is not there`);
      if (fill) {
        await using image = await this.storage.open(device, 'write');
        await fill(image);
        await image.flush();
      }
      if (isImageFormat(format) && (format !== 'raw' || this.storage.keptFormat))
        await this.storage.setFormat?.(device, format);
      await identify(device.uid);
      await this.storage.rename(hidden.name, name).catch((error) => inWords(error, name));
    } catch (error) {
      await this.storage.remove(hidden.name).catch(() => undefined);
      throw error;
    }
  }

  /** As {@link #make}, of a device that is whole as soon as it is there: it has its name from the beginning. */
  async #makeAtOnce(name: string, identify: Identify, make: (name: string) => Promise<void>): Promise<void> {
    this.storage.checkName(name);
    await make(name).catch((error) => inWords(error, name));
    const [device] = await this.storage.devices(name);
    if (!device) throw new StowageError('volume-changed', `somebody took the new volume '${name}' away`);
    await identify(device.uid).catch(async (error) => {
      // The first error is told; what cannot be removed is a volume, and is listed.
      await this.#removeDevice(device).catch(() => undefined);
      throw error;
    });
  }

  async create(volume: WantedVolume, identify: Identify, signal?: AbortSignal): Promise<void> {
    const { capacityBytes, permissions, preallocate, qcow2, encryption } = volume;
    const driver = imageFormat(volume.format);
    if (permissions && !this.storage.setPermissions)
      throw new StowageError('not-supported', 'volumes of this storage have no owner and no mode');
    const sizeBytes = driver.mostBytes(capacityBytes, { ...qcow2, encryption });
    const reserve = preallocate && driver.sizedByImage;
    if (reserve && !driver.plain && !this.storage.reserves)
      throw new StowageError('not-supported', `room cannot be reserved for a ${driver.name} volume here`);
    const { availableBytes } = reserve ? await this.space() : { availableBytes: sizeBytes };
    if (sizeBytes > availableBytes)
      throw new StowageError(
        'no-space',
        `the volume needs ${sizeBytes} bytes, the pool has ${availableBytes} left`,
      );
    const make = (name: string) => this.storage.create(name, sizeBytes, reserve);
    const { createsAtOnce, readsAsZeros, reserves } = this.storage;
    if (createsAtOnce && readsAsZeros && driver.plain && !permissions && (!reserve || reserves))
      return this.#makeAtOnce(volume.name, identify, make);
    const fill = async (image: Image): Promise<void> => {
      const dense = reserve && !this.storage.reserves;
      if (dense || !this.storage.readsAsZeros) await zeroFrom(image, 0, { dense, signal });
      await driver.create(image, volume, signal);
    };
    await this.#make(volume, identify, make, { fill });
    const [device] = permissions ? await this.storage.devices(volume.name) : [];
    if (device && permissions) await this.storage.setPermissions?.(device, permissions);
  }

  async clone(volume: FoundVolume, target: string, identify: Identify, signal?: AbortSignal): Promise<void> {
    const source = await this.device(volume);
    const { name: format } = imageFormat(volume.format);
    const wanted = { name: target, format };
    const { storage } = this;
    const of = { device: source, asBase: false };
    if (storage.clone)
      return this.#make(wanted, identify, (hidden) => storage.clone!(source, hidden), { of });
    await using from = await storage.open(source, 'read');
    const make = (hidden: string) => storage.create(hidden, source.sizeBytes, false);
    const fill = async (image: Image): Promise<void> => {
      await copyToNew(from, image, signal);
      if (!storage.readsAsZeros) await zeroFrom(image, from.sizeBytes, { signal });
    };
    await this.#make(wanted, identify, make, { fill, of });
  }

  async cloneLinked(base: FoundVolume, target: string, identify: Identify): Promise<void> {
    const { storage } = this;
    if (!storage.cloneLinked) throw unsupported('linked clones');
    const device = { name: base.name, uid: base.fingerprint };
    const wanted = { name: target, format: imageFormat(base.format).name };
    const make = (hidden: string) => storage.cloneLinked!(device, hidden);
    await this.#make(wanted, identify, make, { of: { device, asBase: true } });
  }

  async cloneSnapshot(volume: FoundVolume, id: string, target: string, identify: Identify): Promise<void> {
    const { snapshots } = this.storage;
    if (!snapshots) throw unsupported('linked clones of snapshots');
    const device = await this.device(volume);
    const wanted = { name: target, format: imageFormat(volume.format).name };
    const make = (hidden: string) => snapshots.clone(device, id, hidden);
    await this.#make(wanted, identify, make, { of: { device, asBase: false } });
  }

  /** Of what was just done by its name: throws `volume-changed` where that is another device's by now, such as by another host. */
  async #requireSame({ name, uid }: DeviceId, asBase: boolean): Promise<void> {
    const [now] = await this.storage.devices(name);
    if (now?.uid !== uid || (asBase && !now.isBase)) throw replaced(name);
  }

  /**
   * As {@link MakingStorage.rename}; another device that has taken the name meanwhile gets it back, and `volume-changed` is thrown. So
   * does this one where `confirm` throws.
   */
  async #renameSame(device: Device, to: string, confirm?: () => Promise<void>): Promise<void> {
    if ((device.snapshotCount ?? 0) > 0) await this.storage.snapshots?.keepTo?.(device);
    await this.storage.rename(device.name, to);
    try {
      const [renamed] = await this.storage.devices(to);
      if (renamed?.uid !== device.uid) throw replaced(device.name);
      await confirm?.();
    } catch (error) {
      return this.#giveBack(to, device.name, error);
    }
  }

  /** After `error` a device gets its name back, if it can; throws that error all the same, and says where the device is. */
  async #giveBack(hidden: string, name: string, error: unknown): Promise<never> {
    await this.storage.rename(hidden, name).catch((cause) => {
      const { code, message } = toStowageError(error);
      throw new StowageError(code, `${message}; '${name}' is called ${hidden} now`, { cause });
    });
    throw error;
  }

  async setBase(volume: FoundVolume, isBase: boolean): Promise<void> {
    if (!this.storage.setBase) throw unsupported('bases');
    const device = await whenClosed(await this.device(volume), this.storage);
    refuseOpen(device);
    await this.storage.setBase(device, isBase);
    await this.#requireSame(device, isBase);
  }

  async rename(
    volume: FoundVolume,
    target: string,
    identify: Identify,
    confirm?: () => Promise<void>,
  ): Promise<void> {
    this.storage.checkName(target);
    const device = await this.device(volume);
    refuseOpen(await whenClosed(device, this.storage));
    const [there] = await this.storage.devices(target);
    // Both are names of one device after a kill in the middle, where names are links.
    const isSame = there?.uid === device.uid && this.storage.namesAreLinks;
    if (there && !isSame) throw taken(target);
    await identify(device.uid);
    if (isSame) await this.storage.remove(volume.name);
    else await this.#renameSame(device, target, confirm);
  }

  /** It goes by a name that only this pool has for it: under its own there may be another by now, of another host. */
  async remove(volume: FoundVolume, mark?: string, confirm?: () => Promise<void>): Promise<void> {
    await this.#removeDevice(await this.#refuseTaking(volume, mark), confirm);
  }

  async #removeDevice(device: Device, confirm?: () => Promise<void>): Promise<void> {
    using hidden = this.#hidden.doomed(device.uid);
    await this.#renameSame(device, hidden.name, confirm);
    try {
      await this.storage.remove(hidden.name);
    } catch (error) {
      const [left] = await this.storage.devices(hidden.name);
      if (left) await this.#giveBack(hidden.name, device.name, error);
      throw error;
    }
  }

  /** Gives the device. Throws `volume-changed` where it is not the state of `mark`, and as {@link refuseLoss}. */
  async #refuseTaking(volume: FoundVolume, mark: string | undefined): Promise<Device> {
    // First: whoever has it open may change it until then.
    const device = await whenClosed(await this.device(volume), this.storage);
    // Of what was not active nobody can tell whether it was changed.
    if (mark !== undefined && (device.mark === undefined || (await this.settled(device)).mark !== mark))
      throw new StowageError(
        'volume-changed',
        `volume '${volume.name}' was changed since it was read; it stays`,
      );
    refuseLoss(device);
    return device;
  }

  async trash(volume: FoundVolume, id: string, mark?: string, confirm?: () => Promise<void>): Promise<void> {
    const device = await this.#refuseTaking(volume, mark);
    const hidden = this.#hidden.of('kept', id);
    await this.#kept.set(id, device.uid);
    try {
      await this.#renameSame(device, hidden, confirm);
    } catch (error) {
      const there = await this.storage.devices(hidden).catch(() => undefined);
      if (there?.length === 0) await this.#kept.forget(id).catch(() => undefined);
      throw error;
    }
  }

  /** What is in the trash under an id. */
  async #trashed(id: string): Promise<Device | undefined> {
    const [device] = await this.storage.devices(this.#hidden.of('kept', id));
    return device && (await this.#kept.isSame(id, device.uid)) ? device : undefined;
  }

  async restore(id: string, name: string, identify: Identify): Promise<void> {
    this.storage.checkName(name);
    const device = await this.#trashed(id);
    if (!device) throw notInTrash(id);
    const [there] = await this.storage.devices(name);
    // Both are names of one device after a kill in the middle, where names are links.
    const isSame = there?.uid === device.uid && this.storage.namesAreLinks;
    if (there && !isSame) throw taken(name);
    await identify(device.uid);
    if (isSame) await this.storage.remove(device.name);
    else await this.storage.rename(device.name, name);
    // It is back: what stays on record of an id, which is never used again, is in nobody's way.
    await this.#kept.forget(id).catch(() => undefined);
  }

  async wipeTrashed(id: string, fromBytes: number, mostBytes: number): Promise<WipedPart> {
    const device = await this.#trashed(id);
    if (!device) throw notInTrash(id);
    if (this.storage.neverOverwrites)
      throw new StowageError(
        'not-supported',
        'this storage never writes over what it holds: what a volume held stays on its disks until it uses them again',
      );
    const closed = await whenClosed(device, this.storage);
    refuseLoss(closed);
    if ((closed.snapshotCount ?? 0) > 0)
      throw new StowageError(
        'volume-has-snapshots',
        `what the volume held stays in its snapshots (${closed.snapshotCount}), whatever is overwritten; delete each of them first, by vol snapshot delete`,
      );
    if (closed.mark === undefined) await this.storage.activate?.(closed.name);
    // A base takes no write, and keeps what it held where it stands on a snapshot. Nothing changes while it is only asked.
    if (closed.isBase && mostBytes > 0) await this.storage.setBase?.(closed, false);
    await using image = await this.storage.open(closed, mostBytes > 0 ? 'write' : 'glance');
    if (mostBytes === 0) return { doneBytes: fromBytes, totalBytes: image.sizeBytes };
    return { doneBytes: await overwritePart(image, fromBytes, mostBytes), totalBytes: image.sizeBytes };
  }

  async purge(id: string): Promise<void> {
    const [device] = await this.storage.devices(this.#hidden.of('kept', id));
    // Another host's stays, and stays on record as no device of ours.
    if (device && !(await this.#kept.isSame(id, device.uid))) return;
    if (device) await this.storage.remove(device.name);
    await this.#kept.forget(id);
  }

  async trashed(): Promise<string[]> {
    const ids: string[] = [];
    for (const { name, uid } of await this.storage.devices()) {
      const id = this.#hidden.moreOf('kept', name);
      if (id !== undefined && (await this.#kept.isSame(id, uid))) ids.push(id);
    }
    return ids;
  }

  async *orphans(): AsyncGenerator<FoundOrphan> {
    for (const { name, uid, allocationBytes } of await this.storage.devices()) {
      const found = this.#hidden.describe(name);
      // A transfer of ours is nobody's only when no job knows it: its controller sees to that.
      if (!found || found.isBusy) continue;
      const id = this.#hidden.moreOf('kept', name);
      const trashId = id !== undefined && (await this.#kept.isSame(id, uid)) ? id : undefined;
      const ours = id === trashId ? found.what : OF_ANOTHER;
      yield {
        path: name,
        what: found.isOurs ? ours : `${found.what}; another agent made it, or another pool`,
        allocationBytes,
        agentId: found.isOurs ? this.host.agentId : undefined,
        trashId,
      };
    }
  }

  async resize(
    volume: FoundVolume,
    capacityBytes: number,
    shrink: boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    const device = await this.device(volume);
    const driver = imageFormat(volume.format);
    refuseShrink(volume.capacityBytes, capacityBytes, shrink);
    if (!driver.sizedByImage) return this.#resizeInside(device, driver, volume, capacityBytes, signal);
    // What is before the content, such as a header, stays as it is.
    const sizeBytes = device.sizeBytes + capacityBytes - volume.capacityBytes;
    if (sizeBytes >= device.sizeBytes) return this.#grow(device, sizeBytes, signal);
    const closed = await whenClosed(device, this.storage);
    refuseLoss(closed);
    await this.storage.shrink(closed, sizeBytes);
  }

  async #grow(device: Device, sizeBytes: number, signal?: AbortSignal): Promise<void> {
    using scratch = this.#hidden.scratch();
    await this.storage.grow(device, sizeBytes, scratch.name, signal);
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
    refuseOpen(await whenClosed(device, this.storage));
    const sizeBytes = driver.mostBytes(capacityBytes, volume);
    await this.refuseWrongKey(device, volume);
    if (sizeBytes > device.sizeBytes) await this.#grow(device, sizeBytes, signal);
    const [grown = device] = await this.storage.devices(device.name);
    await using image = await this.storage.open(grown, 'write');
    await driver.resize(image, capacityBytes, false, { signal, passphrase: volume.passphrase });
  }

  // ---- streams of the storage ----

  get #ofStreams(): DeviceStreams {
    if (!this.storage.streams) throw unsupported('streams of its own');
    return this.storage.streams;
  }

  async beginSending(volume: FoundVolume, stream: SentStream): Promise<StreamProgram> {
    const device = await this.device(volume);
    return this.#beginStream((place) => this.#ofStreams.send(device, stream, place));
  }

  async beginReceiving(name: string): Promise<StreamProgram> {
    await this.#refuseExisting(name);
    return this.#beginStream((place) => this.#ofStreams.receive(place));
  }

  async beginReceivingOnto(volume: FoundVolume, stream: ReceivedStream): Promise<StreamProgram> {
    const streams = this.#ofStreams;
    if (!streams.receiveOnto) throw unsupported('streams of what has changed');
    const device = await whenClosed(await this.device(volume), this.storage);
    refuseLoss(device);
    const id = clock.uuid();
    const program = await streams.receiveOnto(device, stream);
    this.#onto.set(id, device);
    return { id, ...program };
  }

  async endReceivingOnto(id: string, stream: ReceivedStream): Promise<void> {
    const device = this.#onto.get(id);
    if (!device) throw new StowageError('stream-cut', 'the pool was started anew before the stream was over');
    this.#onto.delete(id);
    await this.#ofStreams.endOnto?.(device, stream);
  }

  async #beginStream(begin: (place: string) => Promise<Omit<StreamProgram, 'id'>>): Promise<StreamProgram> {
    const id = clock.uuid();
    const place = this.#hidden.scratch();
    this.#streams.set(id, place);
    try {
      return { id, ...(await begin(place.name)) };
    } catch (error) {
      await this.dropStream(id).catch(() => undefined);
      throw error;
    }
  }

  async endReceiving(id: string, name: string, stream: ReceivedStream, identify: Identify): Promise<void> {
    const place = this.#streams.get(id);
    if (!place) throw new StowageError('stream-cut', 'the pool was started anew before the stream was over');
    await this.#make({ name, format: 'raw' }, identify, (hidden) =>
      this.#ofStreams.take(place.name, stream, hidden),
    );
  }

  async dropStream(id: string): Promise<void> {
    this.#onto.delete(id);
    const place = this.#streams.get(id);
    if (!place) return;
    // Where it cannot go now it goes with the next start.
    this.#streams.delete(id);
    place[Symbol.dispose]();
    await this.#ofStreams.drop(place.name);
  }

  // ---- moving bytes ----

  async stage(spec: StageSpec, text: string): Promise<Stage> {
    const [begun] = await this.stages(spec.id);
    if (begun) return begun;
    imageFormat(spec.format);
    this.storage.checkName(spec.volume);
    const [existing] = await this.storage.devices(spec.volume);
    if (existing && !spec.replace) throw taken(spec.volume);
    if (existing) refuseReplacement(existing);
    const directory = join(await this.stagesDirectory(), spec.id);
    return BlockStage.begin(directory, this.storage, this.#hidden, spec, text, clock.now());
  }

  stages(id?: string): Promise<Stage[]> {
    return this.stagesBy(id, (directory) => BlockStage.resume(directory, this.storage, this.#hidden));
  }

  async dropStage(id: string): Promise<void> {
    await BlockStage.drop(join(await this.stagesDirectory(), id), this.storage, this.#hidden);
  }
}

const unsupported = (what: string): StowageError =>
  new StowageError('not-supported', `storage pool doesn't support ${what}`);

/** What a killed agent has moved by a name that another host had taken. */
const OF_ANOTHER = 'a volume that another host had made when this one moved one of its name into the trash';

const replaced = (name: string): StowageError =>
  new StowageError('volume-changed', `another volume is called '${name}' by now; it stays as it is`);

const notInTrash = (id: string): StowageError =>
  new StowageError('volume-not-found', `${id} is not in the trash of the pool any more`);

function inWords(error: unknown, name: string): never {
  throw isStowageError(error, 'volume-exists') ? taken(name) : error;
}

const taken = (name: string): StowageError =>
  new StowageError('volume-exists', `the pool has a volume '${name}' already`);
