import type { Permissions } from '../../../shared/conf/permissions.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Space } from '../../backends/backend.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import {
  isHeld,
  isNodeOpen,
  nodeFacts,
  nodeNumber,
  setNodePermissions,
  settledNodeMark,
} from './device-node.ts';
import type { Device, DeviceMode, DeviceStorage } from './device-storage.ts';

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
  units(): Promise<NodeUnit[]>;
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
    for (const device of await this.#devices())
      if ((await isHeld(device.path)) || (await isNodeOpen(device.path)))
        throw new StowageError('volume-in-use', `${device.path} is in use on this host`);
    await this.#source.detach();
  }

  async space(): Promise<Space & { id: string }> {
    const id = await this.#source.id();
    const capacityBytes = (await this.#source.units()).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    return { id, capacityBytes, allocationBytes: capacityBytes, availableBytes: 0 };
  }

  async devices(name?: string): Promise<Device[]> {
    await this.#source.id();
    const devices = await this.#devices(name);
    if (name === undefined) return devices;
    return Promise.all(
      devices.map(async (device) => ({
        ...device,
        open: (await isHeld(device.path)) || (await isNodeOpen(device.path)),
      })),
    );
  }

  async #devices(name?: string): Promise<Device[]> {
    const units = (await this.#source.units()).filter((unit) => (name ?? unit.name) === unit.name);
    return Promise.all(
      units.map(async ({ sizeBytes, ...unit }): Promise<Device> => {
        const number = await nodeNumber(unit.path);
        const facts = await nodeFacts(unit.path, number);
        return {
          ...unit,
          ...facts,
          number,
          sizeBytes,
          allocationBytes: sizeBytes,
          open: false,
          dependants: [],
        };
      }),
    );
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
