import { rm } from 'node:fs/promises';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Identify, Stage, StageSpec } from '../../backends/backend.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { refusePlain } from '../refuse-plain.ts';
import { StageRecord } from '../stage-record.ts';
import { DeviceStage } from './device-stage.ts';
import { type Device, type DeviceStorage, refuseOpen, whenClosed } from './device-storage.ts';
import { imageFormat } from './image-format.ts';
import type { UnitWrites } from './unit-writes.ts';

interface Place {
  storage: DeviceStorage;
  writes: UnitWrites;
}

/** A stage that is the volume itself, where there is no other place. Its record lies on the host's own disk. */
export class InPlaceStage extends DeviceStage implements Stage {
  readonly #place: Place;

  private constructor(record: StageRecord, place: Place) {
    super(record);
    this.#place = place;
  }

  /** Throws `no-space` for what is larger than the device, before anything of that is lost. */
  static async begin(
    directory: string,
    place: Place,
    spec: StageSpec,
    text: string,
    now: number,
  ): Promise<InPlaceStage> {
    const { volume, parts, capacityBytes = 0, representation, format } = spec;
    const driver = imageFormat(format);
    if (representation === 'content' && !driver.plain)
      throw new StowageError(
        'not-supported',
        `content is not made into ${format} in place; send it as raw, or the image as it is`,
      );
    const [device] = await place.storage.devices(volume);
    const needed = Math.max(parts[0]!.sizeBytes, representation === 'content' ? capacityBytes : 0);
    if (!device || device.sizeBytes < needed)
      throw new StowageError('no-space', `'${volume}' has ${device?.sizeBytes ?? 0} bytes, not ${needed}`);
    return new InPlaceStage(await StageRecord.begin(directory, spec, text, now), place);
  }

  static async resume(directory: string, place: Place): Promise<InPlaceStage | undefined> {
    const record = await StageRecord.resume(directory);
    return record && new InPlaceStage(record, place);
  }

  /** Removes its record. What it wrote stays, and that it is torn. */
  static drop(directory: string): Promise<void> {
    return rm(directory, { recursive: true, force: true });
  }

  get volume(): string {
    return this.record.spec.volume;
  }

  /** The same one as when it was begun: another may have its name meanwhile. */
  async #device(): Promise<Device> {
    const { volume } = this.record.spec;
    const [device] = await this.#place.storage.devices(volume);
    if (!device || (this.record.device ?? device.uid) !== device.uid)
      throw new StowageError('io-error', `'${volume}', which the transfer writes to, was taken away`);
    return device;
  }

  protected override async openImage(): Promise<Image> {
    const device = await this.#device();
    refuseOpen(await whenClosed(device, this.#place.storage));
    if (this.record.device === undefined) await this.record.setDevice(device.uid);
    if (!this.#place.writes.of(device.uid).torn) await this.#place.writes.wrote(device.uid, true);
    return this.#place.storage.open(device, 'write');
  }

  async seal(note: string, _passphrase: string | undefined, signal?: AbortSignal): Promise<void> {
    if (this.sealed) return;
    const { parts, representation, format } = this.record.spec;
    const image = await this.image();
    // Behind the last byte that arrived there is what was there before.
    await zeroFrom(image, parts[0]!.sizeBytes, { signal });
    if (representation === 'image') {
      await imageFormat(format).adopt(image);
      refusePlain(this.record.spec, await imageFormat(format).facts(image));
    }
    await image.flush();
    const device = await this.#device();
    if (format !== 'raw') await this.#place.storage.setFormat?.(device, imageFormat(format).name);
    await this.closeImage();
    await this.record.seal(note, device.uid);
  }

  async publish(identify: Identify): Promise<void> {
    const { sealed } = this.record;
    if (!sealed) throw new StowageError('internal', 'a stage is published before it is sealed');
    await identify(sealed.fingerprint);
    await this.#place.writes.wrote(sealed.fingerprint, false);
  }

  async drop(): Promise<void> {
    await this[Symbol.asyncDispose]();
    await InPlaceStage.drop(this.record.directory);
  }
}
