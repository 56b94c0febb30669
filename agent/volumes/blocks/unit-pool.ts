import { join } from 'node:path';
import type { WipeAlgorithm } from '../../../shared/conf/volume.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { FoundVolume, Identify, PoolDriver, Stage, StageSpec } from '../../backends/backend.ts';
import { DevicePool } from './device-pool.ts';
import { type Device, type DeviceStorage, refuseOpen } from './device-storage.ts';
import { InPlaceStage } from './in-place-stage.ts';
import { UnitWrites } from './unit-writes.ts';

/**
 * A pool of devices that are made elsewhere, such as the units of an iSCSI target. What arrives goes over one of them in place, as
 * there is no other: from its first byte to its end the volume is damaged, which is on record.
 */
export class UnitPool extends DevicePool<DeviceStorage> implements PoolDriver {
  #writes: UnitWrites | undefined;
  #beginning: Promise<void> = Promise.resolve();

  override async start(): Promise<void> {
    await super.start();
    this.#writes ??= await UnitWrites.open(await this.host.stateDirectory());
  }

  override async stop(): Promise<void> {
    await super.stop();
    await this.#writes?.[Symbol.asyncDispose]();
    this.#writes = undefined;
  }

  get #known(): UnitWrites {
    if (!this.#writes) throw new StowageError('pool-inactive', 'the pool is not started');
    return this.#writes;
  }

  protected override adjusted(device: Device): Device {
    const { torn, count } = this.#known.of(device.uid);
    return {
      ...device,
      // What the storage does not tell is at least told of what was done here.
      mark: device.mark && `${device.mark}.${count}`,
      damaged:
        device.damaged ?? (torn ? 'what was sent into it has not arrived whole; send it anew' : undefined),
    };
  }

  override async wipe(
    volume: FoundVolume,
    algorithm: WipeAlgorithm,
    identify: Identify,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#refuseTransfer(volume.name);
    // Before, too: a kill in the middle leaves other bytes than there were.
    const { torn } = this.#known.of(volume.fingerprint);
    await this.#known.wrote(volume.fingerprint, torn);
    await super.wipe(volume, algorithm, identify, signal);
    await this.#known.wrote(volume.fingerprint, false);
  }

  /** One after the other: of two for one unit the second is refused. */
  stage(spec: StageSpec, text: string): Promise<Stage> {
    const begun = this.#beginning.then(() => this.#stage(spec, text));
    this.#beginning = begun.then(
      () => undefined,
      () => undefined,
    );
    return begun;
  }

  async #stage(spec: StageSpec, text: string): Promise<Stage> {
    const [begun] = await this.stages(spec.id);
    if (begun) return begun;
    const [device] = await this.storage.devices(spec.volume);
    if (!device)
      throw new StowageError(
        'not-supported',
        `there is no '${spec.volume}', and no volumes are made here: ${this.storage.name} gives those that it has`,
      );
    if (!spec.replace)
      throw new StowageError(
        'volume-exists',
        `'${spec.volume}' would be overwritten in place, from the first byte that arrives: that must be asked for`,
      );
    refuseOpen(device);
    await this.#refuseTransfer(spec.volume);
    const directory = join(await this.stagesDirectory(), spec.id);
    return InPlaceStage.begin(
      directory,
      { storage: this.storage, writes: this.#known },
      spec,
      text,
      clock.now(),
    );
  }

  /** Throws `volume-in-use` while a transfer into a unit is not over. */
  async #refuseTransfer(name: string): Promise<void> {
    const others = (await this.stages()) as InPlaceStage[];
    const other = others.find(({ volume }) => volume === name);
    if (other)
      throw new StowageError('volume-in-use', `'${name}' is being written by the transfer ${other.id}`);
  }

  stages(id?: string): Promise<Stage[]> {
    return this.stagesBy(id, (directory) =>
      InPlaceStage.resume(directory, { storage: this.storage, writes: this.#known }),
    );
  }

  async dropStage(id: string): Promise<void> {
    await InPlaceStage.drop(join(await this.stagesDirectory(), id));
  }
}
