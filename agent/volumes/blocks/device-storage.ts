import type { Volume } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Space } from '../../backends/backend.ts';

/** One block device that its storage can name, such as a logical volume. */
export interface Device {
  name: string;
  /** The same under every name, and never used again. */
  uid: string;
  /** Its device node. */
  path: string;
  /** Of the node; undefined while the device is not active on this host. */
  number?: { major: number; minor: number };
  sizeBytes: number;
  allocationBytes: number;
  /** Somebody on this host has it open. */
  open: boolean;
  /** Names of the devices that stand on this one. */
  dependants: readonly string[];
  backingStore?: Volume['backingStore'];
  /** Why it cannot be used. */
  damaged?: string;
}

/**
 * Storage that is cut into named block devices. Names that begin with a dot are the pool's own. Each change is durable, and
 * done or not done, when its method returns or throws. An error is never read as absence.
 */
export interface DeviceStorage {
  /** How people name it, such as the name of a volume group. */
  readonly name: string;
  /** Throws `pool-not-empty` where something is on the devices, unless `overwrite`. */
  build(overwrite?: boolean): Promise<void>;
  /**
   * Makes the devices appear on this host. From now on only the storage of this id is worked on: every method but `build` throws
   * `pool-inaccessible` when another one has its name. Repeatable.
   */
  attach(id: string): Promise<void>;
  /** Throws `volume-in-use` while one of them is open. */
  detach(): Promise<void>;
  /** What is left once the last device is gone. */
  destroy(): Promise<void>;
  /** Which storage it is, and its sizes. Throws when it is not there. */
  space(): Promise<Space & { id: string }>;
  /** All devices, those with names of the pool's own too; or the one of a name. At the cost of one look. */
  devices(name?: string): Promise<Device[]>;
  /** Throws `invalid-name` for what no device can be named. */
  checkName(name: string): void;
  /** At least so large. It may hold anything. Throws `no-space`, `volume-exists`. */
  create(name: string, sizeBytes: number): Promise<void>;
  /** What is new reads as zeros. Throws `no-space`. */
  grow(device: Device, sizeBytes: number, scratchName: string, signal?: AbortSignal): Promise<void>;
  shrink(device: Device, sizeBytes: number): Promise<void>;
  /** In one step. Throws `volume-exists`. */
  rename(from: string, to: string): Promise<void>;
  /** Makes it active on this host. */
  activate(name: string): Promise<void>;
  /** Throws `volume-in-use` while it is open, `volume-has-snapshots` while others stand on it. */
  remove(name: string): Promise<void>;
}

/** Throws `volume-in-use` while a device is open: a guest may work on it. */
export function refuseOpen({ name, open }: Device): void {
  if (open)
    throw new StowageError('volume-in-use', `volume '${name}' is open on this host: a guest may use it`);
}

/** Throws as {@link refuseOpen}, and `volume-has-snapshots` for a device that others would go with. */
export function refuseLoss(device: Device): void {
  refuseOpen(device);
  const { name, dependants } = device;
  if (dependants.length > 0)
    throw new StowageError(
      'volume-has-snapshots',
      `volume '${name}' has snapshots, which would go with it: ${dependants.slice(0, 5).join(', ')}; delete them first`,
    );
}
