import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Identify, Stage, StageSpec } from '../../backends/backend.ts';
import { overwrite } from '../../formats/wipe.ts';
import type { Image } from '../../images/image.ts';
import { firstBytes } from '../../images/window.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { refusePlain } from '../refuse-plain.ts';
import { StageRecord } from '../stage-record.ts';
import { DeviceStage } from './device-stage.ts';
import { type Device, type MakingStorage, refuseReplacement } from './device-storage.ts';
import type { HiddenNames } from './hidden-names.ts';
import { imageFormat } from './image-format.ts';

/** The part of a stage's hidden names that its id gives, so that a kill before its device is on record loses nothing. */
const nameOf = (id: string): string => createHash('sha256').update(id).digest('hex').slice(0, 12);

/**
 * A stage that is a device with a hidden name. Its record lies on the host's own disk. The device becomes the volume by being
 * renamed; one that it takes the place of steps aside first, and after a kill in between `publish` goes on.
 */
export class BlockStage extends DeviceStage implements Stage {
  readonly #storage: MakingStorage;
  readonly #hidden: HiddenNames;

  private constructor(record: StageRecord, storage: MakingStorage, hidden: HiddenNames) {
    super(record);
    this.#storage = storage;
    this.#hidden = hidden;
  }

  static async begin(
    directory: string,
    storage: MakingStorage,
    hidden: HiddenNames,
    spec: StageSpec,
    text: string,
    now: number,
  ): Promise<BlockStage> {
    const stage = new BlockStage(await StageRecord.begin(directory, spec, text, now), storage, hidden);
    try {
      // What there is no space for fails here, not at the first bytes.
      await stage.images();
      return stage;
    } catch (error) {
      await stage.drop();
      throw error;
    }
  }

  /** A stage that was begun before; undefined where none was. */
  static async resume(
    directory: string,
    storage: MakingStorage,
    hidden: HiddenNames,
  ): Promise<BlockStage | undefined> {
    const record = await StageRecord.resume(directory);
    return record && new BlockStage(record, storage, hidden);
  }

  /** Removes what a stage left, also one whose record cannot be read. A volume that had stepped aside comes back. */
  static async drop(directory: string, storage: MakingStorage, hidden: HiddenNames): Promise<void> {
    const more = nameOf(basename(directory));
    const record = await StageRecord.resume(directory).catch(() => undefined);
    const [volume] = record ? await storage.devices(record.spec.volume) : [];
    const isVolume = ({ uid }: Device): boolean => uid === volume?.uid;
    for (const kind of ['stage', 'made'] as const) {
      const [device] = await storage.devices(hidden.of(kind, more));
      // A kill in the middle of a rename may have left the volume itself under this name too.
      if (device && (!isVolume(device) || storage.namesAreLinks)) await storage.remove(device.name);
    }
    const [aside] = await storage.devices(hidden.of('old', more));
    if (aside) {
      if (!record) throw new StowageError('io-error', `it is not on record which volume ${aside.name} was`);
      const { spec, sealed } = record;
      if (!volume) await storage.rename(aside.name, spec.volume);
      else if (volume.uid === sealed?.fingerprint || (isVolume(aside) && storage.namesAreLinks))
        await storage.remove(aside.name);
      // Somebody else has made a volume of its name meanwhile: it comes back beside that.
      else if (!isVolume(aside)) await storage.rename(aside.name, `${spec.volume}.${more.slice(0, 6)}`);
    }
    await rm(directory, { recursive: true, force: true });
  }

  get #driver(): ReturnType<typeof imageFormat> {
    return imageFormat(this.record.spec.format);
  }

  /** Whether what arrives is made into an image of another format. */
  get #isConverted(): boolean {
    return this.record.spec.representation === 'content' && !this.#driver.plain;
  }

  get #receivedName(): string {
    return this.#hidden.of('stage', nameOf(this.id));
  }

  /** Of what will be the volume. */
  get #objectName(): string {
    return this.#isConverted ? this.#hidden.of('made', nameOf(this.id)) : this.#receivedName;
  }

  /** The name of the volume that steps aside. */
  get #asideName(): string {
    return this.#hidden.of('old', nameOf(this.id));
  }

  protected override async openImage(): Promise<Image> {
    const { parts, capacityBytes = 0 } = this.record.spec;
    const name = this.#receivedName;
    let [device] = await this.#storage.devices(name);
    if (!device && this.record.device === undefined) {
      await this.#storage.create(name, Math.max(capacityBytes, parts[0]!.sizeBytes), false);
      [device] = await this.#storage.devices(name);
    }
    if (!device || (this.record.device ?? device.uid) !== device.uid)
      throw new StowageError('io-error', `the device that the transfer writes to, ${name}, was taken away`);
    if (this.record.device === undefined) await this.record.setDevice(device.uid);
    if (device.mark === undefined) await this.#storage.activate?.(name);
    return this.#storage.open(device, 'write');
  }

  async seal(note: string, passphrase: string | undefined, signal?: AbortSignal): Promise<void> {
    if (this.sealed) return;
    const image = await this.image();
    // Behind the last byte that arrived there is what was there before.
    if (!this.#storage.readsAsZeros) await zeroFrom(image, this.record.spec.parts[0]!.sizeBytes, { signal });
    await image.flush();
    if (this.#isConverted) await this.#convert(image, passphrase, signal);
    else if (!this.#driver.plain) await this.#adopt(image, signal);
    await this.closeImage();
    const object = await this.#required(this.#objectName);
    const { format } = this.record.spec;
    if (format !== 'raw' || this.#storage.keptFormat)
      await this.#storage.setFormat?.(object, this.#driver.name);
    await this.record.seal(note, object.uid);
    // Only now may the received bytes go: a kill before this line makes the object again from them.
    if (this.#isConverted) await this.#removeReceived(signal);
  }

  /** What arrived as it is, and is encrypted now, is written over. */
  async #removeReceived(signal: AbortSignal | undefined): Promise<void> {
    const received = await this.#named(this.#receivedName);
    if (!received) return;
    if (this.record.spec.encryption) {
      await using image = await this.#storage.open(received, 'write');
      await overwrite(image, 'zero', signal);
    }
    await this.#storage.remove(received.name);
  }

  async #required(name: string): Promise<Device> {
    const device = await this.#named(name);
    if (!device) throw new StowageError('io-error', `the device of the transfer, ${name}, was taken away`);
    return device;
  }

  /** Makes an image of the content that arrived, in a device of its own. */
  async #convert(
    content: Image,
    passphrase: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { volume: name, format, parts, capacityBytes: size = 0, encryption } = this.record.spec;
    const capacityBytes = Math.max(size, parts[0]!.sizeBytes);
    const driver = this.#driver;
    await removeDevice(this.#storage, this.#objectName);
    await this.#storage.create(this.#objectName, driver.mostBytes(capacityBytes, { encryption }), false);
    const object = await this.#required(this.#objectName);
    await using image = await this.#storage.open(object, 'write');
    if (!this.#storage.readsAsZeros) await zeroFrom(image, 0, { signal });
    const arrived = firstBytes(content, parts[0]!.sizeBytes);
    const wanted = { name, capacityBytes, format, preallocate: false, encryption, passphrase };
    await driver.fromContent(arrived, image, wanted, signal);
    await image.flush();
  }

  /** Checks the image that arrived, and gives its device the room that it may need. */
  async #adopt(image: Image, signal: AbortSignal | undefined): Promise<void> {
    const driver = this.#driver;
    await driver.adopt(image);
    const facts = await driver.facts(image);
    refusePlain(this.record.spec, facts);
    if (driver.sizedByImage) return;
    const needed = driver.mostBytes(facts.capacityBytes, facts);
    const device = await this.#required(this.#receivedName);
    if (needed <= device.sizeBytes) return;
    await this.closeImage();
    using scratch = this.#hidden.scratch();
    await this.#storage.grow(device, needed, scratch.name, signal);
  }

  async publish(identify: Identify): Promise<void> {
    const { spec, sealed } = this.record;
    if (!sealed) throw new StowageError('internal', 'a stage is published before it is sealed');
    const storage = this.#storage;
    const there = await this.#named(spec.volume);
    if (there?.uid !== sealed.fingerprint) {
      const ours = await this.#named(this.#objectName);
      if (ours?.uid !== sealed.fingerprint)
        throw new StowageError(
          'internal',
          `what arrived for '${spec.volume}' is neither in its transfer nor in its place`,
        );
      if (there && !spec.replace)
        throw new StowageError('volume-exists', `the pool has a volume '${spec.volume}' already`);
      if (there) refuseReplacement(there);
      await identify(sealed.fingerprint);
      if (there) await storage.rename(spec.volume, this.#asideName);
      await storage.rename(this.#objectName, spec.volume).catch(async (error) => {
        if (there) await storage.rename(this.#asideName, spec.volume);
        throw error;
      });
    }
    await removeDevice(storage, this.#asideName);
  }

  async #named(name: string): Promise<Device | undefined> {
    return (await this.#storage.devices(name))[0];
  }

  async drop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    await BlockStage.drop(this.record.directory, this.#storage, this.#hidden);
  }
}

async function removeDevice(storage: MakingStorage, name: string): Promise<void> {
  if ((await storage.devices(name)).length > 0) await storage.remove(name);
}
