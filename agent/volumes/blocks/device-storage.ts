import type { Permissions } from '../../../shared/conf/permissions.ts';
import type { ReceivedStream, SentStream } from '../../../shared/conf/stream.ts';
import type { Snapshot, Volume } from '../../../shared/conf/volume.ts';
import { clock, sleep } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { Space, StreamProgram } from '../../backends/backend.ts';
import type { ImageFormatName } from '../../formats/index.ts';
import type { DeviceNumber } from '../../host/devices.ts';
import type { Image } from '../../images/image.ts';

/** One image that its storage can name: a logical volume, a zvol, an image of Ceph, a unit of an iSCSI target. */
/** Which device: the one that has the name, as long as it is the same. */
export interface DeviceId {
  name: string;
  /** The same under every name, and never used again. */
  uid: string;
}

export interface Device extends DeviceId {
  /** Of what it holds, where the storage keeps that. */
  format?: ImageFormatName;
  /** Its device node, or how clients of its storage call it. */
  path: string;
  /** Of its node, where it is an active block device of this host. */
  number?: DeviceNumber;
  /** Changes whenever the bytes may have changed; undefined while that cannot be told, as it is not active on this host. */
  mark?: string;
  sizeBytes: number;
  allocationBytes: number;
  /** Somebody has it open: a process of this host, or any client of the storage where that can tell. */
  open: boolean;
  /** Names of the devices that would go with this one. */
  dependants: readonly string[];
  backingStore?: Volume['backingStore'];
  /** Snapshots of its own, which are no devices. */
  snapshotCount?: number;
  permissions?: Permissions;
  /** Its storage takes no write to it. */
  isBase?: boolean;
  /** Why it cannot be used. */
  damaged?: string;
}

/** `glance` is for the first bytes, at the least cost; what is read `read` is one state where the storage can. */
export type DeviceMode = 'glance' | 'read' | 'write';

/**
 * Storage that is cut into named images, each a volume. Names that begin with a dot are the pool's own. Each change is durable,
 * and done or not done, when its method returns or throws. An error is never read as absence. A method that is absent means that
 * the storage has no such thing.
 */
export interface DeviceStorage {
  /** How people name it, such as the name of a volume group. */
  readonly name: string;
  /** The id of its space is that of no other storage in the world. */
  readonly hasGlobalId?: boolean;
  /** Of its volumes, for libvirt. */
  readonly type: 'block' | 'network' | 'file';
  /** A device of which nothing is on record holds what its first bytes say, as a file does. Absent: it is raw. */
  readonly probes?: boolean;
  /** Throws `pool-not-empty` where something is on the devices, unless `overwrite`. */
  build?(overwrite?: boolean): Promise<void>;
  /** Brings the storage to this host, before anything is asked of it, such as by a login. Repeatable. */
  connect?(): Promise<void>;
  /**
   * Makes the devices appear on this host; where it is not ours, whoever it belongs to has done so as far as it wants to. From now on only the storage of this id is worked on: every method but `build` throws
   * `pool-inaccessible` when another one has its name. {@link space} has just told the id. Repeatable.
   */
  attach(id: string, isOurs: boolean): Promise<void>;
  /** Throws `volume-in-use` while one of them is open. */
  detach(): Promise<void>;
  /** What is left once the last device is gone. */
  destroy?(): Promise<void>;
  /** Which storage it is, and its sizes. Throws when it is not there. */
  space(): Promise<Space & { id: string }>;
  /** All devices, those with names of the pool's own too; or the one of a name. At the cost of one look. */
  devices(name?: string): Promise<Device[]>;
  /** Its mark, with what somebody wrote and the kernel still holds back. Absent: what is written counts at once. */
  settledMark?(device: Device): Promise<string | undefined>;
  /** Opens an active device. */
  open(device: Device, mode: DeviceMode): Promise<Image>;
  /** Keeps with a device what it holds: a guest may write anything into it. */
  setFormat?(device: Device, format: ImageFormatName): Promise<void>;
  /** What {@link setFormat} kept, where {@link Device.format} does not tell it: asked of a device of unknown origin. */
  keptFormat?(device: Device): Promise<ImageFormatName | undefined>;
  /** Makes it active on this host. Absent: each is. */
  activate?(name: string): Promise<void>;
  /** Makes it active and keeps it so, or lets go of it. Absent: each is active all the time. Repeatable. */
  keepActive?(name: string, keep: boolean): Promise<boolean>;
  setPermissions?(device: Device, permissions: Permissions): Promise<void>;

  readonly snapshots?: DeviceSnapshots;
}

/** Devices as streams of the storage itself. A place is a hidden name, at which it keeps what a stream needs. */
export interface DeviceStreams {
  /** The program that writes a device. Throws `snapshot-not-found`, and `not-supported` for a base where it can begin with none. */
  send(device: Device, stream: SentStream, place: string): Promise<Program>;
  /** The program that reads a stream into a place. */
  receive(place: string): Promise<Program>;
  /** Makes a new raw device, with its snapshots, of what was read into a place. Throws `invalid-image` for what is not one such device. */
  take(place: string, stream: ReceivedStream, name: string): Promise<void>;
  /**
   * The program that brings a device, whose last snapshot is `base`, up to date; it is not run where `snapshot` is that. Throws
   * `snapshot-not-found`, `volume-changed`.
   */
  receiveOnto?(device: Device, stream: ReceivedStream): Promise<Program>;
  /** Once that program has ended, however it has: the device is told to have changed. Throws `invalid-image` as {@link take} does. */
  endOnto?(device: Device, stream: ReceivedStream): Promise<void>;
  /** Does what a kill has kept from {@link endOnto}, for each device that a stream was being received onto. */
  endCut?(): Promise<void>;
  /** Empties a place. Repeatable. */
  drop(place: string): Promise<void>;
  /** The places at which something is. */
  places(): Promise<string[]>;
}

type Program = Omit<StreamProgram, 'id'>;

/** Storage of which devices can be made and taken away. */
export interface MakingStorage extends DeviceStorage {
  /** What was just made, and what a device grows by, reads as zeros; else it may hold anything. */
  readonly readsAsZeros: boolean;
  /** What is written goes elsewhere, and never over the bytes that it takes the place of. */
  readonly neverOverwrites?: boolean;
  /** Throws `invalid-name` for what no device can be named. */
  checkName(name: string): void;
  /** With `reserve`, {@link create} keeps the room of a volume for it; absent: that is done by writing zeros. */
  readonly reserves?: boolean;
  /** A kill leaves no device that {@link create} has not finished. */
  readonly createsAtOnce?: boolean;
  /** At least so large. Throws `no-space`, `volume-exists`. */
  create(name: string, sizeBytes: number, reserve: boolean): Promise<void>;
  /** What is new reads as zeros. `scratchName` is free for what that needs. Throws `no-space`. */
  grow(device: Device, sizeBytes: number, scratchName: string, signal?: AbortSignal): Promise<void>;
  shrink(device: Device, sizeBytes: number): Promise<void>;
  /** After a kill a device may have two names, and taking away one keeps the other. */
  readonly namesAreLinks?: boolean;
  /** In one step. Throws `volume-exists`. */
  rename(from: string, to: string): Promise<void>;
  /** Throws `volume-in-use` while it is open, `volume-has-snapshots` while others stand on it. Takes its snapshots along. */
  remove(name: string): Promise<void>;
  /** Makes a base of a device, or a device of a base; repeatable. Absent: it has no bases, and no linked clones. */
  setBase?(device: Device, isBase: boolean): Promise<void>;
  /** A new device that can be written to, and stands on a base. */
  cloneLinked?(base: DeviceId, name: string): Promise<void>;
  readonly streams?: DeviceStreams;
  /** A new device with what one holds, sharing its blocks, which lives on without it. Absent: the bytes are copied. */
  clone?(device: Device, name: string): Promise<void>;
}

/** Snapshots of a device. */
export interface DeviceSnapshots {
  list(device: Device): Promise<Snapshot[]>;
  /** Throws `snapshot-exists`, `invalid-name`. */
  create(device: Device, id: string): Promise<void>;
  /** The device becomes what it was then, and stays the same device; the snapshot stays. Throws `snapshot-not-found`. */
  switch(device: Device, id: string): Promise<void>;
  /** Throws `snapshot-not-found`, `volume-in-use` while others stand on it. */
  delete(device: Device, id: string): Promise<void>;
  /** Throws `snapshot-not-found`, `snapshot-exists`, `invalid-name`. */
  rename(device: Device, id: string, to: string): Promise<void>;
  /** Before the device gets another name: its snapshots are its own still then. Absent: they are whatever it is called. */
  keepTo?(device: Device): Promise<void>;
  /** Tells a snapshot from a later one of its id. Throws `snapshot-not-found`. */
  markOf(device: Device, id: string): Promise<string>;
  /** Opens what the device held at a snapshot that {@link markOf} has just found, for reading. */
  open(device: Device, id: string): Promise<Image>;
  /** A new device that can be written to, with what one held at a snapshot, sharing its blocks. Throws `snapshot-not-found`. */
  clone(device: Device, id: string, name: string): Promise<void>;
}

/** So long something may have a device open that is no guest: udev looks into each one that was written to. */
const PROBED_MS = 2000;
const LOOK_MS = 100;

/** A device as it is once nobody has it open, or after {@link PROBED_MS}; as it was last where it has gone meanwhile. */
export async function whenClosed(device: Device, storage: Pick<DeviceStorage, 'devices'>): Promise<Device> {
  let last = device;
  const end = clock.monotonicMs() + PROBED_MS;
  while (last.open && clock.monotonicMs() < end) {
    await sleep(LOOK_MS);
    const [now] = await storage.devices(device.name);
    if (now?.uid !== device.uid) return last;
    last = now;
  }
  return last;
}

/** Runs what fails with `volume-in-use` while somebody has a device open; again, for {@link PROBED_MS} at most. */
export async function onceClosed<T>(work: () => Promise<T>): Promise<T> {
  for (const end = clock.monotonicMs() + PROBED_MS; ; await sleep(LOOK_MS))
    try {
      return await work();
    } catch (error) {
      if (!isStowageError(error, 'volume-in-use') || clock.monotonicMs() > end) throw error;
    }
}

/** Throws `volume-in-use` while a device is open: a guest may work on it. */
export function refuseOpen({ name, open }: Device): void {
  if (open) throw new StowageError('volume-in-use', `volume '${name}' is open: a guest may use it`);
}

/** Throws as {@link refuseLoss}, and `volume-has-snapshots` for a device that another one is to take the place of. */
export function refuseReplacement(device: Device): void {
  refuseLoss(device);
  if (device.snapshotCount)
    throw new StowageError(
      'volume-has-snapshots',
      `volume '${device.name}' has ${device.snapshotCount} snapshots, which would go with it; delete them first`,
    );
}

/** Throws as {@link refuseOpen}, and `volume-has-snapshots` for a device that others would go with. */
export function refuseLoss(device: Device): void {
  refuseOpen(device);
  refuseDependants(device);
}

/** Throws `volume-has-snapshots`, of a base `volume-has-clones`, for a device that others would go with. */
export function refuseDependants({ name, dependants, isBase }: Device): void {
  if (dependants.length === 0) return;
  const names = dependants.slice(0, 5).join(', ');
  if (isBase)
    throw new StowageError('volume-has-clones', `linked clones stand on volume '${name}': ${names}`);
  throw new StowageError(
    'volume-has-snapshots',
    `others stand on volume '${name}', and would go with it: ${names}; delete them first`,
  );
}
