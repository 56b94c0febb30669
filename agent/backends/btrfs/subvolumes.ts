import type { BigIntStats } from 'node:fs';
import { lstat, mkdir, readdir, rename, rm, rmdir, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { IMAGE_FORMATS, type ImageFormatName } from '../../formats/index.ts';
import { exists, makeDirectory, setPermissions, syncDirectory, writeZeros } from '../../host/files.ts';
import { HeldLock } from '../../host/held-lock.ts';
import { preallocate } from '../../host/holes.ts';
import { sourceMountedAt } from '../../host/mounts.ts';
import { isFileOpen } from '../../host/open-files.ts';
import { renameToNew } from '../../host/rename.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import type {
  Device,
  DeviceId,
  DeviceMode,
  DeviceStreams,
  MakingStorage,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { btrfs, FIRST_INODE, fileSystemOf, subvolumeAt, subvolumeOf } from './btrfs.ts';
import { SubvolumeSnapshots } from './subvolume-snapshots.ts';
import { SubvolumeStreams } from './subvolume-streams.ts';
import { VolumeIds } from './volume-ids.ts';

const FORMATS = Object.keys(IMAGE_FORMATS) as ImageFormatName[];
/** Beside the volumes, what is the pool's own. */
const PRIVATE = '.stowage';
/** Volumes looked at side by side. */
const AT_ONCE = 16;

/** The image in the subvolume of a volume: Proxmox VE names raw ones so, too. */
const imageName = (format: ImageFormatName): string => `disk.${format}`;

/**
 * A directory on btrfs whose subvolumes are the volumes: each has one image in it, and that alone. What has an `@` in its name is
 * none: Proxmox VE names snapshots so, `NAME@ID`.
 */
export class Subvolumes implements MakingStorage {
  readonly type = 'file';
  readonly readsAsZeros = true;
  readonly neverOverwrites = true;
  readonly reserves = true;
  readonly name: string;
  readonly snapshots: SubvolumeSnapshots;
  readonly streams: DeviceStreams;
  readonly #permissions: Permissions | undefined;
  readonly #ids: VolumeIds;
  readonly #lock = new HeldLock();
  #id: string | undefined;

  constructor(path: string, permissions: Permissions | undefined) {
    this.name = path;
    this.#permissions = permissions;
    this.#ids = new VolumeIds(this.#at(join(PRIVATE, 'ids')));
    this.snapshots = new SubvolumeSnapshots(path, this.#at(PRIVATE), this.#ids);
    this.streams = new SubvolumeStreams(path, this.#at(PRIVATE), this.snapshots);
  }

  #at(name: string): string {
    return join(this.name, name);
  }

  /** A subvolume of its own, where nothing is yet and that can be; else a directory of the file system that is there. */
  async build(): Promise<void> {
    this.#id = undefined;
    if (!(await exists(this.name))) {
      await makeDirectory(dirname(this.name));
      await btrfs('subvolume', 'create', '--', this.name).catch((error) => {
        if (!isStowageError(error, 'tool-failed')) throw error;
        throw new StowageError('invalid-argument', `${dirname(this.name)} is not on btrfs: ${error.message}`);
      });
    }
    await makeDirectory(this.name, this.#permissions);
    await this.space();
  }

  async attach(id: string): Promise<void> {
    await mkdir(this.#at(PRIVATE), { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    const isNew = await this.#lock.take(this.#at(join(PRIVATE, 'lock')), this.name);
    this.#id = id;
    if (!isNew) return;
    // Nobody works on it yet: what a kill has left goes now.
    await this.snapshots.removeSwitches().catch(() => undefined);
    const there = new Set((await this.devices()).map(({ uid }) => uid));
    await this.snapshots.finishRemovals((uid) => there.has(uid));
  }

  async detach(): Promise<void> {
    await this.#lock.release();
    this.#id = undefined;
  }

  async destroy(): Promise<void> {
    const [entry, ...more] = (await readdir(this.name)).filter((name) => name !== PRIVATE);
    if (entry !== undefined)
      throw new StowageError(
        'pool-not-empty',
        `${this.name} still holds ${more.length + 1} entries, such as '${entry}'`,
      );
    await this.snapshots.removeSwitches();
    await this.snapshots.finishRemovals(() => false);
    await this.snapshots.refuseAny();
    await rm(this.#at(PRIVATE), { recursive: true, force: true });
    // What is mounted by others stays as it is.
    if (sourceMountedAt(this.name) !== undefined) return;
    if ((await lstat(this.name)).ino === FIRST_INODE)
      await btrfs('subvolume', 'delete', '--commit-after', '--', this.name);
    else await rmdir(this.name);
  }

  async space(): Promise<Space & { id: string }> {
    const id = await this.#identify();
    if (this.#id !== undefined && id !== this.#id)
      throw new StowageError(
        'pool-inaccessible',
        `another file system, or directory, is at ${this.name} now`,
      );
    const { blocks, bfree, bavail, bsize } = await statfs(this.name);
    return {
      id,
      capacityBytes: blocks * bsize,
      allocationBytes: (blocks - bfree) * bsize,
      availableBytes: bavail * bsize,
    };
  }

  /** Which directory of which subvolume it is. */
  async #identify(): Promise<string> {
    const fileSystem = await fileSystemOf(this.name).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
      throw new StowageError('pool-inaccessible', `there is no directory ${this.name}; build the pool first`);
    });
    if (fileSystem === undefined)
      throw new StowageError(
        'pool-inaccessible',
        `${this.name} is not on btrfs: is its file system mounted?`,
      );
    const { ino } = await lstat(this.name);
    return `${fileSystem}/${await subvolumeOf(this.name)}/${ino}`;
  }

  async devices(name?: string): Promise<Device[]> {
    await this.space();
    const limit = pLimit(AT_ONCE);
    const names = name === undefined ? await readdir(this.name) : [name];
    const volumes = names.filter((entry) => entry !== PRIVATE && !entry.includes('@'));
    const isOne = name !== undefined;
    const devices = await Promise.all(volumes.map((entry) => limit(() => this.#device(entry, isOne))));
    return devices.filter((device) => device !== undefined);
  }

  /** undefined for what is no volume, and for one that has gone. `thorough`: also who has it open. */
  async #device(name: string, thorough: boolean): Promise<Device | undefined> {
    try {
      return await this.#facts(name, thorough);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  }

  async #facts(name: string, thorough: boolean): Promise<Device | undefined> {
    const path = this.#at(name);
    const root = await lstat(path);
    if (!root.isDirectory() || root.ino !== FIRST_INODE) return undefined;
    const entries = new Set(await readdir(path));
    const [format, another] = FORMATS.filter((each) => entries.has(imageName(each)));
    // What has a name of the pool's own may not have its image yet.
    if (!format && !name.startsWith('.')) return undefined;
    const uid = await this.#ids.of(path);
    const subvolume = await subvolumeAt(path);
    const image = join(path, imageName(format ?? 'raw'));
    const stat = format && (await lstat(image, { bigint: true }));
    return {
      name,
      uid,
      path: image,
      format,
      // As that of a file; going back to a snapshot makes it another one.
      mark:
        stat &&
        `${stat.mtimeNs.toString(36)}.${stat.size.toString(36)}.${stat.birthtimeNs.toString(36)}.${subvolume.id.slice(0, 8)}`,
      sizeBytes: Number(stat?.size ?? 0),
      allocationBytes: Number(stat?.blocks ?? 0) * 512,
      open: thorough && (await isFileOpen(image)),
      dependants: [],
      snapshotCount: (await this.snapshots.ids(uid)).length,
      isBase: subvolume.readOnly,
      permissions: stat && permissionsOf(stat),
      damaged: damageOf(stat, another),
    };
  }

  async open(device: Device, mode: DeviceMode): Promise<Image> {
    return FileImage.open(device.path, mode === 'write' ? 'write' : 'read');
  }

  async setFormat(device: Device, format: ImageFormatName): Promise<void> {
    const path = join(this.#at(device.name), imageName(format));
    if (path === device.path) return;
    await rename(device.path, path);
    await syncDirectory(this.#at(device.name));
  }

  async setPermissions({ path }: Device, permissions: Permissions): Promise<void> {
    await setPermissions(path, permissions);
  }

  checkName(name: string): void {
    if (name.includes('@'))
      throw new StowageError(
        'invalid-name',
        `a volume cannot be named '${name}' here: behind an @ is the name of a snapshot`,
      );
  }

  async create(name: string, sizeBytes: number, reserve: boolean): Promise<void> {
    const path = this.#at(name);
    await btrfs('subvolume', 'create', '--', path);
    await using image = await FileImage.open(join(path, imageName('raw')), 'create');
    if (reserve && !(await preallocate(image.handle, sizeBytes)))
      await writeZeros(image.handle, 0, sizeBytes);
    await image.setSize(sizeBytes);
    await image.flush();
    await syncDirectory(path);
    await syncDirectory(this.name);
  }

  async grow(device: Device, sizeBytes: number): Promise<void> {
    await this.#setSize(device, sizeBytes);
  }

  async shrink(device: Device, sizeBytes: number): Promise<void> {
    await this.#setSize(device, sizeBytes);
  }

  async #setSize({ path }: Device, sizeBytes: number): Promise<void> {
    await using image = await FileImage.open(path, 'write');
    await image.setSize(sizeBytes);
    await image.flush();
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#refuseOthersSnapshots(from);
    try {
      renameToNew(this.#at(from), this.#at(to));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new StowageError('volume-exists', `${this.name} holds a '${to}' already`);
    }
    await syncDirectory(this.name);
  }

  async remove(name: string): Promise<void> {
    const [device] = await this.devices(name);
    if (!device) throw new StowageError('volume-not-found', `${this.name} holds no volume '${name}'`);
    await this.#refuseOthersSnapshots(name);
    const subvolume = await subvolumeOf(this.#at(name));
    await this.snapshots.removing(device.uid);
    try {
      await btrfs('subvolume', 'delete', '--commit-after', '--', this.#at(name));
    } catch (error) {
      await this.snapshots.staying(device.uid);
      throw error;
    }
    await this.#ids.forget(subvolume);
    await this.snapshots.removed(device.uid);
  }

  /** Throws `volume-has-snapshots` where another program has snapshots of a volume beside it: they are of its name. */
  async #refuseOthersSnapshots(name: string): Promise<void> {
    const [other] = (await readdir(this.name)).filter((entry) => entry.startsWith(`${name}@`));
    if (other !== undefined)
      throw new StowageError(
        'volume-has-snapshots',
        `volume '${name}' has a snapshot of another program, ${other}; delete it first`,
      );
  }

  cloneLinked(base: DeviceId, name: string): Promise<void> {
    return this.clone(base, name);
  }

  async setBase({ name }: Device, isBase: boolean): Promise<void> {
    await btrfs('property', 'set', '-t', 'subvol', '--', this.#at(name), 'ro', String(isBase));
    await btrfs('filesystem', 'sync', '--', this.name);
  }

  async clone(device: DeviceId, name: string): Promise<void> {
    await btrfs('subvolume', 'snapshot', '--', this.#at(device.name), this.#at(name));
    await syncDirectory(this.name);
  }
}

function permissionsOf({ mode, uid, gid }: BigIntStats): Permissions {
  return { mode: Number(mode) & 0o777, owner: Number(uid), group: Number(gid) };
}

function damageOf(stat: BigIntStats | undefined, another: string | undefined): string | undefined {
  if (stat && !stat.isFile()) return 'its image is no regular file';
  return another && 'its subvolume holds two images: which is the volume cannot be told';
}
