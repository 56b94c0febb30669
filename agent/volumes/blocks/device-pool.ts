import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Finding, MappedVolume, Representation, Snapshot } from '../../../shared/conf/volume.ts';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import type { Source } from '../../../shared/transfer/source.ts';
import { clock } from '../../../shared/util/clock.ts';
import { cut, isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { hashedUuid } from '../../../shared/util/hashed-uuid.ts';
import { Revert } from '../../../shared/util/revert.ts';
import type {
  Found,
  FoundVolume,
  HostServices,
  Identify,
  IdentityStore,
  Known,
  OpenSnapshot,
  OpenVolume,
  Space,
  Stage,
} from '../../backends/backend.ts';
import type { ImageFormat } from '../../formats/format.ts';
import { IMAGE_FORMATS, type ImageFormatName, isImageFormat, probeFormat } from '../../formats/index.ts';
import { passphraseOf } from '../../formats/qemu-tool.ts';
import { overwrite, refuseTrim } from '../../formats/wipe.ts';
import { exists } from '../../host/files.ts';
import type { Image } from '../../images/image.ts';
import { emptyOf } from '../empty.ts';
import { openIdentities } from '../identities.ts';
import { mapFile, mappedAs, unmapFile } from '../mapped-file.ts';
import { keepsNames } from '../snapshot-names.ts';
import { StorageNote } from '../storage-note.ts';
import { type Device, type DeviceStorage, refuseLoss, refuseOpen, whenClosed } from './device-storage.ts';
import { imageFormat } from './image-format.ts';

const MIB = 1 << 20;
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
 * This is all that needs no devices to be made.
 */
export abstract class DevicePool<Storage extends DeviceStorage> {
  protected readonly storage: Storage;
  protected readonly host: HostServices;
  readonly #note: StorageNote;
  #storageId: string | undefined;

  constructor(storage: Storage, host: HostServices) {
    this.storage = storage;
    this.host = host;
    this.#note = new StorageNote(() => host.stateDirectory());
  }

  // ---- life ----

  async start(): Promise<void> {
    await this.storage.connect?.();
    const { id } = await this.storage.space();
    await this.#note.check(this.storage.name, id);
    await this.storage.attach(id, this.host.ownsStorage);
    await this.#note.set(this.storage.name, id);
    this.#storageId = id;
  }

  async stop(): Promise<void> {
    if (this.host.ownsStorage) await this.storage.detach();
  }

  /** From now on whatever has the name is the pool's storage. */
  protected forgetStorage(): Promise<void> {
    return this.#note.forget();
  }

  async space(): Promise<Space> {
    const { id, ...space } = await this.storage.space();
    if (id !== this.#storageId)
      throw new StowageError('pool-inaccessible', `${this.storage.name} is another storage than it was`);
    return this.storage.hasGlobalId ? { ...space, storageId: id } : space;
  }

  async identities(): Promise<IdentityStore> {
    return openIdentities(join(await this.host.stateDirectory(), 'identities.log'));
  }

  idOf(fingerprint: string): string {
    return hashedUuid(`${String(this.#storageId)} ${fingerprint}`);
  }

  // ---- looking ----

  async *list(known: (name: string) => Known | undefined, signal?: AbortSignal): AsyncGenerator<Found[]> {
    const found: Found[] = [];
    for (const each of await this.storage.devices()) {
      signal?.throwIfAborted();
      if (each.name.startsWith('.')) continue;
      const device = this.adjusted(each);
      const before = known(device.name);
      const unchanged = before?.fingerprint === device.uid && before.stamp === stampOf(device);
      const described = unchanged ? { name: device.name, unchanged } : await this.#describe(device, before);
      if (described) found.push(described);
    }
    yield found;
  }

  /** A device with what the pool itself knows of it. */
  protected adjusted(device: Device): Device {
    return device;
  }

  /** undefined for one that has gone since it was listed. */
  async #describe(device: Device, known?: Known): Promise<FoundVolume | undefined> {
    const content = await this.#contentFacts(device, known).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      return undefined;
    });
    if (!content) return undefined;
    const { name, uid, path, mark = INACTIVE, sizeBytes, allocationBytes } = device;
    const { snapshotCount = 0, permissions, backingStore, isBase } = device;
    return {
      name,
      type: this.storage.type,
      path,
      format: 'raw',
      capacityBytes: sizeBytes,
      allocationBytes,
      snapshotCount,
      permissions,
      backingStore,
      isBase: isBase || undefined,
      damaged: device.damaged,
      fingerprint: uid,
      mark,
      stamp: stampOf(device),
      ...content,
    };
  }

  /** What the bytes of a device tell of the volume. That the storage does not answer says nothing of them, and is thrown. */
  async #contentFacts(device: Device, known: Known | undefined): Promise<Partial<FoundVolume>> {
    const onRecord = known?.fingerprint === device.uid ? known.format : undefined;
    let format = device.format ?? onRecord ?? (this.storage.probes ? undefined : 'raw');
    // One that is not active cannot be read: what is known of it is its format.
    if (device.damaged !== undefined || device.mark === undefined) return format ? { format } : {};
    format ??= await this.storage.keptFormat?.(device);
    if (format === 'raw') return {};
    try {
      await using image = await this.storage.open(device, 'glance');
      const found = format ?? (await probe(image));
      if (found === 'raw' || !isImageFormat(found)) return {};
      const { snapshotCount, ...facts } = await IMAGE_FORMATS[found].facts(image);
      return { format: found, ...facts, snapshotCount: (device.snapshotCount ?? 0) + snapshotCount };
    } catch (error) {
      if (!isDamage(error)) throw error;
      return { format: format ?? 'unknown', capacityBytes: 0, damaged: cut(error.message, 500) };
    }
  }

  async look(name: string, known?: Known): Promise<FoundVolume | undefined> {
    const [device] = await this.storage.devices(name);
    if (!device || name.startsWith('.')) return undefined;
    return this.#describe(this.adjusted(await this.settled(device)), known);
  }

  /** A device, with what somebody wrote and the kernel still holds back counted as written. */
  protected async settled(device: Device): Promise<Device> {
    if (device.mark === undefined || !this.storage.settledMark) return device;
    return { ...device, mark: await this.storage.settledMark(device) };
  }

  /** The device of a volume, active; not another one that has its name meanwhile. */
  protected async device({ name, fingerprint }: Pick<FoundVolume, 'name' | 'fingerprint'>): Promise<Device> {
    const [device] = await this.storage.devices(name);
    if (device?.uid !== fingerprint)
      throw new StowageError('volume-not-found', `the pool has no volume '${name}' any more`);
    if (device.mark === undefined) await this.storage.activate?.(name);
    return device;
  }

  readonly wipesDamaged = true;

  async wipe(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    _identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    const device = await this.device(volume);
    refuseLoss(await whenClosed(device, this.storage));
    const driver = imageFormat(volume.format);
    if (volume.snapshotCount > 0)
      throw new StowageError(
        'volume-has-snapshots',
        'a volume with snapshots is not wiped; delete them first',
      );
    await this.refuseWrongKey(device, volume);
    await using image = await this.storage.open(device, 'write');
    signal?.throwIfAborted();
    // Its capacity was in the bytes that are damaged.
    const capacityBytes =
      volume.damaged === undefined ? volume.capacityBytes : roomFor(driver, device, volume);
    const whole = { ...volume, capacityBytes };
    if (volume.encryption) passphraseOf(volume);
    // What is refused leaves the volume as it is.
    if (algorithm === 'trim') refuseTrim(image);
    try {
      await overwrite(image, algorithm, signal);
    } finally {
      // Whatever came of it, an empty volume is there again.
      if (!driver.plain) await driver.create(image, { ...emptyOf(whole), format: driver.name });
    }
  }

  /** Throws `secret-missing` and `secret-refused` before anything of an encrypted volume is changed. */
  protected async refuseWrongKey(
    device: Device,
    { format, encryption, passphrase, damaged }: FoundVolume,
  ): Promise<void> {
    if (!encryption || damaged !== undefined) return;
    await using image = await this.storage.open(device, 'read');
    await imageFormat(format).unlock?.(image, passphrase);
  }

  // ---- snapshots ----

  /** Those of the storage; where it has none, those inside the image. */
  async #snapshots<T>(
    volume: FoundVolume,
    mode: 'read' | 'write',
    work: (snapshots: Bound) => Promise<T>,
  ): Promise<T> {
    const device = await this.device(volume);
    const { snapshots } = this.storage;
    if (snapshots)
      return work({
        list: () => snapshots.list(device),
        create: (id) => snapshots.create(device, id),
        switch: (id) => snapshots.switch(device, id),
        delete: (id) => snapshots.delete(device, id),
      });
    const driver = imageFormat(volume.format);
    const inside = driver.snapshots;
    // Two who write to the tables of one image destroy it.
    if (mode === 'write') refuseOpen(device);
    if (!inside) throw noSnapshots(driver);
    await using image = await this.storage.open(device, mode);
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
    refuseOpen(await this.device(volume));
    await this.#snapshots(volume, 'write', (snapshots) => snapshots.switch(id));
  }

  deleteSnapshot(volume: FoundVolume, id: string, signal?: AbortSignal): Promise<void> {
    return this.#snapshots(volume, 'write', (snapshots) => snapshots.delete(id, signal));
  }

  async renameSnapshot(volume: FoundVolume, id: string, to: string): Promise<void> {
    const { snapshots } = this.storage;
    if (!snapshots) throw keepsNames(volume.format);
    await snapshots.rename(await this.device(volume), id, to);
  }

  async openSnapshot(volume: FoundVolume, id: string): Promise<OpenSnapshot> {
    const device = await this.device(volume);
    const driver = imageFormat(volume.format);
    const { snapshots } = this.storage;
    await using revert = new Revert();
    const openImage = async (opening: Promise<Image>): Promise<Image> => {
      const image = await opening;
      revert.push(() => image.close());
      return image;
    };
    const opened = (image: Image, content: Source, mark: string, markNow: () => Promise<string>) => {
      revert.commit();
      return {
        ...{ content, mark, markNow },
        async [Symbol.asyncDispose]() {
          try {
            if (content !== image) await content.close();
          } finally {
            await image.close();
          }
        },
      };
    };
    if (!snapshots) {
      const inside = driver.snapshots;
      if (!inside) throw noSnapshots(driver);
      const image = await openImage(this.storage.open(device, 'read'));
      const markNow = (): Promise<string> => inside.markOf(image, id);
      const mark = await markNow();
      return opened(image, await inside.openContent(image, id, refuseBacking), mark, markNow);
    }
    const markNow = (): Promise<string> => snapshots.markOf(device, id);
    const mark = await markNow();
    const image = await openImage(snapshots.open(device, id));
    return opened(image, await driver.openContent(image, refuseBacking, volume.passphrase), mark, markNow);
  }

  async check(volume: FoundVolume, repair: boolean, signal?: AbortSignal): Promise<Finding[]> {
    const device = await this.device(volume);
    const driver = imageFormat(volume.format);
    if (!driver.check)
      throw new StowageError(
        'not-supported',
        `volumes of format ${driver.name} hold nothing that could be checked`,
      );
    if (repair) refuseOpen(device);
    await using image = await this.storage.open(device, repair ? 'write' : 'read');
    return await driver.check(image, repair, signal);
  }

  // ---- stages ----

  /** Where the records of stages are: on the host's own disk. */
  protected async stagesDirectory(): Promise<string> {
    return join(await this.host.stateDirectory(), 'stages');
  }

  /** The ids of all stages that were begun here and are not dropped. */
  protected async stageIds(): Promise<string[]> {
    const directory = await this.stagesDirectory();
    return (await exists(directory)) ? readdir(directory) : [];
  }

  /**
   * The stages that were begun here and are not dropped, one by its id or all. Of all stages one that cannot be read hides no other;
   * of the one that was asked for the error is the answer.
   */
  protected async stagesBy<T extends Stage>(
    id: string | undefined,
    resume: (directory: string) => Promise<T | undefined>,
  ): Promise<T[]> {
    const directory = await this.stagesDirectory();
    const stages: T[] = [];
    for (const each of id === undefined ? await this.stageIds() : [id]) {
      const resumed = resume(join(directory, each));
      const stage = id === undefined ? await resumed.catch(() => undefined) : await resumed;
      if (stage) stages.push(stage);
    }
    return stages;
  }

  // ---- reading ----

  async mappedAs({ path }: FoundVolume): Promise<string | undefined> {
    return this.storage.type === 'file' ? mappedAs(path) : undefined;
  }

  /** Where volumes are block devices they are mapped as they are. */
  async map(volume: FoundVolume): Promise<MappedVolume> {
    if (this.storage.type === 'network')
      throw new StowageError(
        'not-supported',
        "volumes of this storage are no block devices of a host: a guest reaches them by the network, see 'vol blockdev'",
      );
    const { name, path, isBase = false } = await this.device(volume);
    if (this.storage.type === 'file')
      return mapFile(path, { name, isBase }, () =>
        this.device(volume).then(
          () => true,
          () => false,
        ),
      );
    await this.storage.keepActive?.(name, true);
    return { device: path, isReadOnly: isBase };
  }

  async unmap(volume: FoundVolume): Promise<string[]> {
    const device = await this.device(volume);
    if (this.storage.type === 'file') return unmapFile(device.path);
    refuseOpen(await whenClosed(device, this.storage));
    if (!this.storage.keepActive) return [];
    return (await this.storage.keepActive(device.name, false)) ? [device.path] : [];
  }

  async activate(volume: FoundVolume): Promise<boolean> {
    if (volume.mark !== INACTIVE) return false;
    await this.device(volume);
    return true;
  }

  async open(volume: FoundVolume, as: Representation): Promise<OpenVolume> {
    const device = await this.device(volume);
    const driver = imageFormat(volume.format);
    const image = await this.storage.open(device, 'read');
    await using revert = new Revert();
    revert.push(() => image.close());
    const source = as === 'image' ? image : await driver.openContent(image, refuseBacking, volume.passphrase);
    revert.commit();
    return {
      parts: [{ name: '', sizeBytes: source.sizeBytes, dense: false }],
      sources: [source],
      // Those of the storage stay there; those in an image are a part of it.
      snapshotsLeft: as === 'image' ? device.snapshotCount : volume.snapshotCount,
      isChanged: image.isChanged && (() => image.isChanged!()),
      async [Symbol.asyncDispose]() {
        if (source !== image) await source.close();
        await image.close();
      },
    };
  }
}

/** Changes with anything that a look at a device would tell. */
function stampOf(device: Device): string {
  const {
    mark,
    sizeBytes,
    allocationBytes,
    snapshotCount,
    backingStore,
    damaged,
    format,
    permissions,
    isBase,
  } = device;
  const { mode, owner, group } = permissions ?? {};
  return JSON.stringify([
    mark,
    sizeBytes,
    allocationBytes,
    snapshotCount,
    backingStore?.path,
    damaged,
    format,
    isBase,
    mode,
    owner,
    group,
  ]);
}

/** The largest capacity, in MiB, of an image of a format that a device has room for. */
function roomFor(driver: ImageFormat, { sizeBytes }: Device, volume: FoundVolume): number {
  let [fits, not] = [0, Math.ceil(sizeBytes / MIB) + 1];
  while (not - fits > 1) {
    const half = Math.floor((fits + not) / 2);
    if (driver.mostBytes(half * MIB, volume) <= sizeBytes) fits = half;
    else not = half;
  }
  // A file has what it needs, and can grow: it becomes as large as it is.
  return Math.max(1, fits === 0 ? Math.ceil(sizeBytes / MIB) : fits) * MIB;
}

/** Whether an error tells of the bytes of one volume. */
function isDamage(error: unknown): error is Error {
  return (
    isStowageError(error, 'invalid-image', 'volume-damaged', 'io-error') ||
    (error as NodeJS.ErrnoException).code === 'EIO'
  );
}

async function probe(image: Image): Promise<ImageFormatName> {
  const head = Buffer.alloc(Math.min(4096, image.sizeBytes));
  await image.read(head, 0);
  const found = probeFormat(head);
  const { filesOnly }: ImageFormat = IMAGE_FORMATS[found];
  return filesOnly ? 'raw' : found;
}

const noSnapshots = ({ name }: ImageFormat): StowageError =>
  new StowageError('not-supported', `volumes of format ${name} have no snapshots here`);

async function refuseBacking(): Promise<never> {
  throw new StowageError(
    'not-supported',
    'the content of an image that stands on another one cannot be read here',
  );
}
