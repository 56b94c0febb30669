import { join } from 'node:path';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { type ImageFormatName, imageFormatNamed } from '../../formats/index.ts';
import type { Image } from '../../images/image.ts';
import type { Device, DeviceMode, MakingStorage } from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import type { Stat } from './gfapi.ts';
import { type GlusterAddress, GlusterVolume } from './gluster-volume.ts';

/** Where a file keeps what it holds. */
const FORMAT = 'user.stowage.format';

/** One directory of a gluster volume, whose files are the volumes, reached without a mount. */
export class GlusterPool implements MakingStorage {
  readonly hasGlobalId = true;
  readonly type = 'network';
  readonly readsAsZeros = true;
  readonly probes = true;
  readonly namesAreLinks = true;
  readonly name: string;
  readonly #address: GlusterAddress;
  readonly #directory: string;
  #id: string | undefined;

  constructor(address: GlusterAddress, directory: string) {
    this.#address = address;
    this.#directory = directory;
    this.name = join(address.volume, directory);
  }

  async #volume(): Promise<GlusterVolume> {
    const volume = await GlusterVolume.connect(this.#address);
    if (this.#id !== undefined && this.#idIn(volume) !== this.#id)
      throw new StowageError('pool-inaccessible', `${this.name} is another volume than it was`);
    return volume;
  }

  #idIn(volume: GlusterVolume): string {
    return join(volume.id, this.#directory);
  }

  #at(name: string): string {
    return join('/', this.#directory, name);
  }

  async attach(id: string): Promise<void> {
    this.#id = id;
  }

  async detach(): Promise<void> {
    this.#id = undefined;
  }

  async space(): Promise<Space & { id: string }> {
    const volume = await this.#volume();
    const { isDirectory } = await volume.stat(this.#at('.')).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      throw new StowageError('pool-inaccessible', `the directory ${this.name} is not there`);
    });
    if (!isDirectory) throw new StowageError('pool-inaccessible', `${this.name} is no directory`);
    return { id: this.#idIn(volume), ...(await volume.space(this.#at('.'))) };
  }

  async devices(name?: string): Promise<Device[]> {
    const volume = await this.#volume();
    const found: Device[] = [];
    if (name === undefined) {
      await this.space();
      for await (const entry of volume.list(this.#at('.')))
        if (entry.stat.isFile) found.push(this.#device(entry.name, entry.stat));
      return found;
    }
    const stat = await volume.stat(this.#at(name)).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      return undefined;
    });
    // That there is no such file says nothing while the directory is not there.
    if (!stat) await this.space();
    return stat?.isFile ? [this.#device(name, stat)] : [];
  }

  #device(name: string, stat: Stat): Device {
    const { host, volume } = this.#address;
    return {
      name,
      uid: String(stat.ino),
      path: `gluster://${host}/${join(volume, this.#directory, name)}`,
      mark: `${stat.mtimeNs.toString(36)}.${stat.sizeBytes.toString(36)}`,
      sizeBytes: stat.sizeBytes,
      allocationBytes: stat.allocationBytes,
      open: false,
      dependants: [],
      permissions: { mode: stat.mode, owner: stat.uid, group: stat.gid },
    };
  }

  checkName(name: string): void {
    if (Buffer.byteLength(name) > 255)
      throw new StowageError('invalid-name', `'${name.slice(0, 60)}…' is too long for a file`);
  }

  async open({ name }: Device, mode: DeviceMode): Promise<Image> {
    return (await this.#volume()).open(this.#at(name), mode === 'write' ? mode : 'read');
  }

  /** In an attribute of the file: what a guest writes into it does not change that. */
  async setFormat({ name }: Device, format: ImageFormatName): Promise<void> {
    await (await this.#volume()).setAttribute(this.#at(name), FORMAT, format);
  }

  async keptFormat({ name }: Device): Promise<ImageFormatName | undefined> {
    return imageFormatNamed(await (await this.#volume()).attribute(this.#at(name), FORMAT));
  }

  async setPermissions({ name }: Device, permissions: Permissions): Promise<void> {
    await (await this.#volume()).setPermissions(this.#at(name), permissions);
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    const volume = await this.#volume();
    await volume.create(this.#at(name), sizeBytes);
  }

  async grow(device: Device, sizeBytes: number): Promise<void> {
    await this.#setSize(device, sizeBytes);
  }

  async shrink(device: Device, sizeBytes: number): Promise<void> {
    await this.#setSize(device, sizeBytes);
  }

  async #setSize({ name }: Device, sizeBytes: number): Promise<void> {
    await using file = await (await this.#volume()).open(this.#at(name), 'write');
    await file.setSize(sizeBytes);
    await file.flush();
  }

  async rename(from: string, to: string): Promise<void> {
    await (await this.#volume()).rename(this.#at(from), this.#at(to));
  }

  async remove(name: string): Promise<void> {
    await (await this.#volume()).remove(this.#at(name));
  }
}
