import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Identify, Stage, StageSpec } from '../../backends/backend.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { StageRecord } from '../stage-record.ts';
import { type Device, type DeviceStorage, refuseLoss } from './device-storage.ts';
import type { HiddenNames } from './hidden-names.ts';

/** The part of a stage's hidden name that its id gives, so that a kill before its device is on record loses nothing. */
const nameOf = (id: string): string => id.replaceAll('-', '').slice(0, 16);

/**
 * A stage that is a device with a hidden name. Its record lies on the host's own disk. The device becomes the volume by being
 * renamed; one that it takes the place of steps aside first, and after a kill in between `publish` goes on.
 */
export class BlockStage implements Stage {
  readonly #record: StageRecord;
  readonly #storage: DeviceStorage;
  readonly #hidden: HiddenNames;
  #image: Promise<Image> | undefined;

  private constructor(record: StageRecord, storage: DeviceStorage, hidden: HiddenNames) {
    this.#record = record;
    this.#storage = storage;
    this.#hidden = hidden;
  }

  static async begin(
    directory: string,
    storage: DeviceStorage,
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
    storage: DeviceStorage,
    hidden: HiddenNames,
  ): Promise<BlockStage | undefined> {
    const record = await StageRecord.resume(directory);
    return record && new BlockStage(record, storage, hidden);
  }

  /** Removes what a stage left, also one whose record cannot be read. A volume that had stepped aside comes back. */
  static async drop(directory: string, storage: DeviceStorage, hidden: HiddenNames): Promise<void> {
    const more = nameOf(basename(directory));
    await removeDevice(storage, hidden.of('stage', more));
    const aside = hidden.of('old', more);
    if ((await storage.devices(aside)).length > 0) {
      const { spec } = (await StageRecord.resume(directory)) ?? {};
      if (!spec) throw new StowageError('io-error', `it is not on record which volume ${aside} was`);
      if ((await storage.devices(spec.volume)).length === 0) await storage.rename(aside, spec.volume);
      else await storage.remove(aside);
    }
    await rm(directory, { recursive: true, force: true });
  }

  get id(): string {
    return this.#record.spec.id;
  }

  get spec(): string {
    return this.#record.text;
  }

  get sealed(): boolean {
    return this.#record.sealed !== undefined;
  }

  get note(): string | undefined {
    return this.#record.sealed?.note;
  }

  get touchedAt(): number {
    return this.#record.touchedAt;
  }

  get #hiddenName(): string {
    return this.#hidden.of('stage', nameOf(this.id));
  }

  /** The name of the volume that steps aside. */
  get #asideName(): string {
    return this.#hidden.of('old', nameOf(this.id));
  }

  async images(): Promise<readonly Image[]> {
    this.#record.requireOpen();
    this.#image ??= this.#openImage().catch((error) => {
      this.#image = undefined;
      throw error;
    });
    return [await this.#image];
  }

  async #openImage(): Promise<Image> {
    const { parts, capacityBytes = 0 } = this.#record.spec;
    const name = this.#hiddenName;
    let [device] = await this.#storage.devices(name);
    if (!device && this.#record.device === undefined) {
      await this.#storage.create(name, Math.max(capacityBytes, parts[0]!.sizeBytes));
      [device] = await this.#storage.devices(name);
    }
    if (!device || (this.#record.device ?? device.uid) !== device.uid)
      throw new StowageError('io-error', `the device that the transfer writes to, ${name}, was taken away`);
    if (this.#record.device === undefined) await this.#record.setDevice(device.uid);
    if (device.mark === undefined) await this.#storage.activate?.(name);
    return this.#storage.open(device, 'write');
  }

  journal(): Promise<Image> {
    return this.#record.journal();
  }

  async seal(note: string, signal?: AbortSignal): Promise<void> {
    if (this.sealed) return;
    const [image] = (await this.images()) as [Image];
    // Behind the last byte that arrived there is what was there before.
    if (!this.#storage.readsAsZeros) await zeroFrom(image, this.#record.spec.parts[0]!.sizeBytes, { signal });
    await image.flush();
    await this.#closeImage();
    await this.#record.seal(note, this.#record.device!);
  }

  async publish(identify: Identify): Promise<void> {
    const { spec, sealed } = this.#record;
    if (!sealed) throw new StowageError('internal', 'a stage is published before it is sealed');
    const storage = this.#storage;
    const there = await this.#named(spec.volume);
    if (there?.uid !== sealed.fingerprint) {
      const ours = await this.#named(this.#hiddenName);
      if (ours?.uid !== sealed.fingerprint)
        throw new StowageError(
          'internal',
          `what arrived for '${spec.volume}' is neither in its transfer nor in its place`,
        );
      if (there && !spec.replace)
        throw new StowageError('volume-exists', `the pool has a volume '${spec.volume}' already`);
      if (there) refuseLoss(there);
      await identify(sealed.fingerprint);
      if (there) await storage.rename(spec.volume, this.#asideName);
      await storage.rename(this.#hiddenName, spec.volume).catch(async (error) => {
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
    await BlockStage.drop(this.#record.directory, this.#storage, this.#hidden);
  }

  async #closeImage(): Promise<void> {
    const image = await this.#image?.catch(() => undefined);
    this.#image = undefined;
    await image?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closeImage();
    await this.#record[Symbol.asyncDispose]();
  }
}

async function removeDevice(storage: DeviceStorage, name: string): Promise<void> {
  if ((await storage.devices(name)).length > 0) await storage.remove(name);
}
