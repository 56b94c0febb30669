import { join } from 'node:path';
import pLimit from 'p-limit';
import type { WipeAlgorithm } from '../../../shared/conf/wipe-algorithms.ts';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { FoundVolume, Identify, PoolDriver, Stage, StageSpec } from '../../backends/backend.ts';
import { DevicePool } from './device-pool.ts';
import { type Device, type DeviceStorage, refuseOpen, whenClosed } from './device-storage.ts';
import { InPlaceStage } from './in-place-stage.ts';
import { UnitWrites } from './unit-writes.ts';

/**
 * A pool of devices that are made elsewhere, such as the units of an iSCSI target. What arrives goes over one of them in place, as
 * there is no other: from its first byte to its end the volume is damaged, which is on record.
 */
export class UnitPool extends DevicePool<DeviceStorage> implements PoolDriver {
  #writes: UnitWrites | undefined;
  /** What begins to write to a unit does so one after the other: each sees those before. */
  readonly #alone = pLimit(1);
  readonly #wiping = new Set<string>();

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
    const { name, fingerprint: uid } = volume;
    await this.#alone(async () => {
      await this.#refuseWriter(name);
      this.#wiping.add(name);
    });
    try {
      // Before, too: a kill in the middle leaves other bytes than there were.
      await this.#known.wrote(uid, this.#known.of(uid).torn);
      await super.wipe(volume, algorithm, identify, signal);
      await this.#known.wrote(uid, false);
    } finally {
      this.#wiping.delete(name);
    }
  }

  /** Throws `volume-in-use` while a transfer or a wipe of a unit is not over. */
  async #refuseWriter(name: string): Promise<void> {
    if (this.#wiping.has(name)) throw new StowageError('volume-in-use', `'${name}' is being wiped`);
    for (const id of await this.stageIds()) {
      // One that cannot be read may be of this unit: that is an error, and not no transfer.
      const [stage] = await this.stages(id);
      if (stage?.volume === name)
        throw new StowageError('volume-in-use', `'${name}' is being written by the transfer ${id}`);
    }
  }

  stage(spec: StageSpec, text: string): Promise<Stage> {
    return this.#alone(() => this.#stage(spec, text));
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
    if (spec.refresh)
      throw new StowageError(
        'not-supported',
        `'${spec.volume}' can only be overwritten in place: until a refresh is complete there would be no good copy`,
      );
    refuseOpen(await whenClosed(device, this.storage));
    await this.#refuseWriter(spec.volume);
    const directory = join(await this.stagesDirectory(), spec.id);
    return InPlaceStage.begin(
      directory,
      { storage: this.storage, writes: this.#known },
      spec,
      text,
      clock.now(),
    );
  }

  stages(id?: string): Promise<InPlaceStage[]> {
    return this.stagesBy(id, (directory) =>
      InPlaceStage.resume(directory, { storage: this.storage, writes: this.#known }),
    );
  }

  async dropStage(id: string): Promise<void> {
    await InPlaceStage.drop(join(await this.stagesDirectory(), id));
  }
}
