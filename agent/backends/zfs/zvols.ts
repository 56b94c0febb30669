import { readdir } from 'node:fs/promises';
import type { Permissions } from '../../../shared/conf/permissions.ts';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import { type ImageFormatName, imageFormatNamed } from '../../formats/index.ts';
import { sourceMountedAt } from '../../host/mounts.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import {
  isInUse,
  nodeFacts,
  nodeNumber,
  setNodePermissions,
  settledNodeMark,
  waitForNode,
} from '../../volumes/blocks/device-node.ts';
import {
  type Device,
  type DeviceId,
  type DeviceMode,
  type DeviceSnapshots,
  type DeviceStreams,
  type MakingStorage,
  onceClosed,
  refuseLoss,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { CHANGED, type Dataset, datasets, FORMAT, zfs } from './zfs.ts';
import { isOfBase, OF_BASE, ZfsSnapshots } from './zfs-snapshots.ts';
import { ZfsStreams } from './zfs-streams.ts';

/** A size is a whole number of these, whatever the size of a volume's blocks. */
const ROUND = 128 << 10;

/** A dataset of ZFS whose zvols, one level below, are the volumes. */
export class Zvols implements MakingStorage {
  readonly hasGlobalId = true;
  readonly type = 'block';
  readonly readsAsZeros = true;
  readonly neverOverwrites = true;
  readonly createsAtOnce = true;
  readonly reserves = true;
  readonly name: string;
  readonly #devices: readonly string[];
  #guid: string | undefined;
  readonly streams: DeviceStreams;
  readonly snapshots: DeviceSnapshots = new ZfsSnapshots(
    (name) => this.#at(name),
    (name) => this.#of(name),
    (name) => this.#setChanged(name),
    (snapshot, name) => this.#clone(snapshot, name),
  );

  /** `devices` are what the pool is made of when it is built. */
  constructor(name: string, devices: readonly string[]) {
    this.name = name;
    this.#devices = devices;
    this.streams = new ZfsStreams(name, (volume) => this.#setChanged(volume));
  }

  #at(name: string): string {
    return `${this.name}/${name}`;
  }

  async build(overwrite?: boolean): Promise<void> {
    if (this.#devices.length === 0 || this.name.includes('/'))
      throw new StowageError(
        'invalid-argument',
        'which devices is the zpool to be made of? Give the source devices',
      );
    // Without -f ZFS refuses devices that hold something.
    await zfs('zpool', 'create', ...(overwrite ? ['-f'] : []), this.name, ...this.#devices);
    this.#guid = undefined;
  }

  async attach(id: string): Promise<void> {
    this.#guid = id;
  }

  /** A zpool stays imported: others may use it. */
  async detach(): Promise<void> {
    await this.space();
  }

  /** Of nothing but itself: ZFS asks nobody before it takes along what is in a zpool. */
  async destroy(): Promise<void> {
    const others = (await this.#of()).filter((row) => row.name !== this.name);
    if (others.length > 0)
      throw new StowageError(
        'pool-not-empty',
        `${this.name} still holds ${others.length} datasets and snapshots, such as '${others[0]!.name}'`,
      );
    await this.#refuseFiles();
    if (this.name.includes('/')) await zfs('zfs', 'destroy', this.name);
    else await zfs('zpool', 'destroy', this.name);
  }

  /** A dataset above volumes is a file system too. What it holds is seen only where it is mounted. */
  async #refuseFiles(): Promise<void> {
    const { stdout } = await zfs('zfs', 'get', '-Hp', '-o', 'value', 'mountpoint', this.name);
    const mountpoint = stdout.trim();
    if (sourceMountedAt(mountpoint) !== this.name)
      throw new StowageError(
        'pool-not-empty',
        `${this.name} is not mounted, so that it may hold files unseen; mount it, or destroy it with ${this.name.includes('/') ? 'zfs' : 'zpool'} destroy`,
      );
    const [file] = await readdir(mountpoint);
    if (file !== undefined)
      throw new StowageError(
        'pool-not-empty',
        `${this.name} holds files, such as '${file}' in ${mountpoint}`,
      );
  }

  async space(): Promise<Space & { id: string }> {
    const { stdout } = await zfs(
      'zfs',
      'get',
      '-Hp',
      '-o',
      'property,value',
      'guid,used,available',
      this.name,
    ).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
      throw new StowageError('pool-inaccessible', `there is no dataset ${this.name} on this host now`);
    });
    const values = new Map(stdout.split('\n').map((line) => line.split('\t') as [string, string]));
    const [used, available] = [Number(values.get('used')), Number(values.get('available'))];
    const id = values.get('guid');
    if (id === undefined) throw new StowageError('io-error', `zfs says nothing of ${this.name}`);
    this.#requireSame(id);
    return { id, capacityBytes: used + available, allocationBytes: used, availableBytes: available };
  }

  #requireSame(guid: string | undefined): void {
    if (this.#guid !== undefined && guid !== this.#guid)
      throw new StowageError('pool-inaccessible', `another dataset has the name ${this.name} now`);
  }

  /** Of one volume: it and its snapshots; or of all. */
  async #of(name?: string): Promise<Dataset[]> {
    const rows = await datasets(name === undefined ? this.name : this.#at(name)).catch(async (error) => {
      if (name === undefined || !isStowageError(error, 'volume-not-found')) throw error;
      // That there is no such volume says nothing while the dataset above is away.
      await this.space();
      return [];
    });
    if (name === undefined) this.#requireSame(rows.find((row) => row.name === this.name)?.guid);
    return rows;
  }

  async devices(name?: string): Promise<Device[]> {
    // What stands on a volume may be anywhere in the pool: of one volume that is asked only before it may be lost.
    const rows = await this.#of(name);
    const depth = this.name.split('/').length + 1;
    const volumes = rows.filter(
      (row) => row.type === 'volume' && row.name.split('/').length === depth && !row.name.includes('@'),
    );
    return Promise.all(volumes.map((row) => this.#device(row, rows, name !== undefined)));
  }

  async #device(row: Dataset, rows: readonly Dataset[], thorough: boolean): Promise<Device> {
    const name = row.name.slice(this.name.length + 1);
    const path = `/dev/zvol/${row.name}`;
    const number = await nodeNumber(path);
    const { mark, permissions } = await nodeFacts(path, number);
    const taken = rows.filter((other) => other.name.startsWith(`${row.name}@`));
    const snapshots = taken.filter((other) => !isOfBase(other.name));
    const clones = rows.filter((other) => other.origin?.startsWith(`${row.name}@`));
    return {
      name,
      uid: row.guid ?? '',
      path,
      format: imageFormatNamed(row[FORMAT]),
      number,
      // Going back to a snapshot is no write to the node.
      mark: mark && `${mark}/${row[CHANGED] ?? ''}`,
      permissions,
      sizeBytes: Number(row.volsize),
      allocationBytes: Number(row.referenced),
      open: thorough && (await isInUse(path)),
      dependants: clones.map((clone) => clone.name),
      snapshotCount: snapshots.length,
      isBase: taken.length > snapshots.length,
      backingStore: row.origin === undefined ? undefined : { path: `/dev/zvol/${row.origin}`, format: 'raw' },
    };
  }

  async settledMark({ path, number, mark }: Device): Promise<string | undefined> {
    if (!number || mark === undefined) return undefined;
    const settled = await settledNodeMark(path, number);
    return settled && `${settled}${mark.slice(mark.indexOf('/'))}`;
  }

  checkName(name: string): void {
    if (!/^[A-Za-z0-9_.:-]+( [A-Za-z0-9_.:-]+)*$/.test(name) || this.#at(name).length > 240)
      throw new StowageError(
        'invalid-name',
        `a zvol cannot be named '${name.slice(0, 60)}': only letters, digits and _ . : - may be in it`,
      );
  }

  open({ path }: Device, mode: DeviceMode): Promise<Image> {
    return FileImage.open(path, mode === 'write' ? mode : 'read', 'thin');
  }

  /** Waits for its node. */
  async activate(name: string): Promise<void> {
    const path = `/dev/zvol/${this.#at(name)}`;
    await waitForNode(path);
  }

  /** Of what is done: whoever uses it waits for a node that is late. */
  async #awaitNode(name: string): Promise<void> {
    await this.activate(name).catch((error) => {
      if (!isStowageError(error, 'io-error')) throw error;
    });
  }

  async setFormat({ name }: Device, format: ImageFormatName): Promise<void> {
    await zfs('zfs', 'set', `${FORMAT}=${format}`, this.#at(name));
  }

  async #setChanged(name: string): Promise<void> {
    await zfs('zfs', 'set', `${CHANGED}=${clock.uuid()}`, this.#at(name));
  }

  setPermissions({ path }: Device, permissions: Permissions): Promise<void> {
    return setNodePermissions(path, permissions);
  }

  async create(name: string, sizeBytes: number, reserve: boolean): Promise<void> {
    const size = String(Math.ceil(sizeBytes / ROUND) * ROUND);
    await zfs('zfs', 'create', ...(reserve ? [] : ['-s']), '-V', size, this.#at(name));
    await this.#awaitNode(name);
  }

  async grow({ name }: Device, sizeBytes: number): Promise<void> {
    await zfs('zfs', 'set', `volsize=${Math.ceil(sizeBytes / ROUND) * ROUND}`, this.#at(name));
  }

  shrink(device: Device, sizeBytes: number): Promise<void> {
    return this.grow(device, sizeBytes);
  }

  async rename(from: string, to: string): Promise<void> {
    await zfs('zfs', 'rename', this.#at(from), this.#at(to));
    await this.#awaitNode(to);
  }

  /** As Proxmox VE does it: clones stand on a snapshot of that name. */
  async setBase({ name, isBase: now = false }: Device, isBase: boolean): Promise<void> {
    const snapshot = `${this.#at(name)}${OF_BASE}`;
    if (isBase) await zfs('zfs', 'set', 'readonly=on', this.#at(name));
    if (isBase && !now) await zfs('zfs', 'snapshot', snapshot);
    if (!isBase && now)
      await zfs('zfs', 'destroy', snapshot).catch((error) => {
        if (!isStowageError(error, 'volume-has-snapshots')) throw error;
        throw new StowageError('volume-has-clones', `other volumes stand on '${name}'`);
      });
    if (!isBase) await zfs('zfs', 'set', 'readonly=off', this.#at(name));
  }

  async cloneLinked({ name: base }: DeviceId, name: string): Promise<void> {
    await this.#clone(`${this.#at(base)}${OF_BASE}`, name);
  }

  async #clone(snapshot: string, name: string): Promise<void> {
    await zfs('zfs', 'clone', snapshot, this.#at(name));
  }

  async remove(name: string): Promise<void> {
    // With -r snapshots go first: what is open is found before.
    await onceClosed(async () => {
      const device = (await this.devices()).find((each) => each.name === name);
      if (device) refuseLoss(device);
      await zfs('zfs', 'destroy', '-r', this.#at(name));
    });
  }
}
