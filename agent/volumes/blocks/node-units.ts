import type { Permissions } from '../../../shared/conf/permissions.ts';
import { clock, sleep } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Space } from '../../backends/backend.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import {
  isHeld,
  isInUse,
  nodeFacts,
  nodeNumber,
  setNodePermissions,
  settledNodeMark,
} from './device-node.ts';
import type { Device, DeviceMode, DeviceStorage } from './device-storage.ts';
import { type ScsiUnit, scsiUnits, stablePaths } from './host-disks.ts';

/** One disk that somebody else made, under the name of its volume. */
export interface NodeUnit {
  name: string;
  /** The same for one disk under every name; see {@link HostDisk}. */
  uid: string;
  path: string;
  sizeBytes: number;
}

/** Where units come from. */
export interface UnitSource {
  /** How people name it. */
  readonly name: string;
  /** Which storage it is. Throws when it is not there. */
  id(): Promise<string>;
  /** Brings the units to this host, such as by a login. Repeatable. */
  connect?(): Promise<void>;
  detach?(): Promise<void>;
  /** One that is reached by several ways is told several times. */
  units(): Promise<NodeUnit[]>;
}

const BY_PATH = '/dev/disk/by-path';

/** The disks below a SCSI host, named as libvirt names them, by their paths in a directory of udev's. */
export async function unitsOfHost(
  host: string,
  directory = BY_PATH,
): Promise<(ScsiUnit & Omit<NodeUnit, 'uid'>)[]> {
  const paths = await stablePaths(directory);
  return (await scsiUnits(host)).map((unit) => ({
    ...unit,
    name: `unit:${unit.address}`,
    path: paths.get(unit.kernelName) ?? `/dev/${unit.kernelName}`,
  }));
}

/** udev names a new disk in an instant, unless it is away, or very busy. */
const NAMES_MS = 3000;
const LOOK_MS = 50;

/** Settles when udev has named the disks that are now below some SCSI hosts: before that they have other names. Waits no longer than 3 s. */
export async function waitForNames(hosts: readonly string[], directory = BY_PATH): Promise<void> {
  const end = clock.monotonicMs() + NAMES_MS;
  const areNamed = async (): Promise<boolean> => {
    const units = await Promise.all(hosts.map((host) => unitsOfHost(host, directory)));
    return units.flat().every(({ path }) => path.startsWith(`${directory}/`));
  };
  while (clock.monotonicMs() < end && !(await areNamed())) await sleep(LOOK_MS);
}

/** Disks of this host that are made elsewhere, as the devices of a pool. */
export class NodeUnits implements DeviceStorage {
  readonly type = 'block';
  readonly #source: UnitSource;

  constructor(source: UnitSource) {
    this.#source = source;
  }

  get name(): string {
    return this.#source.name;
  }

  async connect(): Promise<void> {
    await this.#source.connect?.();
  }

  async attach(): Promise<void> {}

  async detach(): Promise<void> {
    // Disks that stay where they are may be in use, such as that of the host itself.
    if (!this.#source.detach) return;
    for (const { path } of await this.#source.units())
      if (await isInUse(path)) throw new StowageError('volume-in-use', `${path} is in use on this host`);
    await this.#source.detach();
  }

  /** By one of its ways each. */
  async #units(): Promise<NodeUnit[]> {
    const units = await this.#source.units();
    return [...new Map(units.toReversed().map((unit) => [unit.name, unit])).values()].toReversed();
  }

  async space(): Promise<Space & { id: string }> {
    const id = await this.#source.id();
    const capacityBytes = (await this.#units()).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { id, capacityBytes, allocationBytes: capacityBytes, availableBytes: 0 };
  }

  async devices(name?: string): Promise<Device[]> {
    await this.#source.id();
    const units = (await this.#units()).filter((unit) => (name ?? unit.name) === unit.name);
    return Promise.all(units.map((unit) => this.#device(unit, name !== undefined)));
  }

  /** Whether it is open costs a look at all processes: that is asked of one, before it is changed. */
  async #device({ name, uid, path, sizeBytes }: NodeUnit, withUse: boolean): Promise<Device> {
    const number = await nodeNumber(path);
    return {
      name,
      uid,
      path,
      number,
      ...(await nodeFacts(path, number)),
      sizeBytes,
      allocationBytes: sizeBytes,
      open: withUse && (await isInUse(path)),
      dependants: [],
    };
  }

  async settledMark({ path, number }: Device): Promise<string | undefined> {
    return number && settledNodeMark(path, number);
  }

  async open({ path, name }: Device, mode: DeviceMode): Promise<Image> {
    // What is mounted, or part of something that is, is not written to.
    if (mode === 'write' && (await isHeld(path)))
      throw new StowageError(
        'volume-in-use',
        `'${name}' is in use on this host: ${path} is mounted or part of another device`,
      );
    return FileImage.open(path, mode === 'write' ? mode : 'read', 'block');
  }

  setPermissions({ path }: Device, permissions: Permissions): Promise<void> {
    return setNodePermissions(path, permissions);
  }
}
