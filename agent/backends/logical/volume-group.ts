import type { Permissions } from '../../../shared/conf/permissions.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { ImageFormatName } from '../../formats/index.ts';
import { refuseUsedDevice } from '../../host/devices.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import { zeroFrom } from '../../images/zeros.ts';
import { setNodePermissions, settledNodeMark } from '../../volumes/blocks/device-node.ts';
import {
  type Device,
  type DeviceMode,
  type MakingStorage,
  refuseDependants,
} from '../../volumes/blocks/device-storage.ts';
import type { HostServices, Space } from '../backend.ts';
import { lvm, report } from './lvm.ts';
import {
  deviceOf,
  formatTag,
  isVolume,
  layoutOf,
  markOf,
  type Row,
  thinIdIn,
  VOLUME_FIELDS,
} from './rows.ts';

const GROUP_FIELDS = ['vg_uuid', 'vg_size', 'vg_free'];
/** What LVM takes for a name. */
export const NAME = /^[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$/;

/** Runs a change of the metadata while nobody else makes one. */
export type Alone = HostServices['alone'];

/** What LVM itself puts into the names of its parts, and prefixes that it keeps for itself. */
const RESERVED =
  /_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vdata|vorigin|wcorig)|^(snapshot|pvmove)/;

/** Tries to give zeroed extents to a volume before somebody else takes them. */
const TRIES = 3;

/** A volume group of LVM, whose logical volumes are the volumes. */
export class VolumeGroup implements MakingStorage {
  readonly name: string;
  readonly hasGlobalId = true;
  readonly type = 'block';
  readonly #devices: readonly string[];
  /** Of the group that was attached: another one may take its name. */
  #uuid: string | undefined;
  #isOurs = true;
  protected readonly alone: Alone;
  /** Volumes of a group that is not ours, which were activated for some work here. */
  readonly #activated = new Set<string>();

  get readsAsZeros(): boolean {
    return false;
  }

  /** `devices` are the physical volumes that it is made of when it is built; under `alone` its metadata is changed. */
  constructor(name: string, devices: readonly string[], alone: Alone) {
    this.name = name;
    this.alone = alone;
    this.#devices = devices;
  }

  async build(overwrite?: boolean): Promise<void> {
    this.forget();
    if (this.#devices.length === 0)
      throw new StowageError(
        'invalid-argument',
        'which devices is the volume group to be made of? Give the source devices',
      );
    if (overwrite) await lvm('pvcreate', ['-ff', '--yes', '--', ...this.#devices]);
    else for (const device of this.#devices) await refuseUsedDevice(device);
    await lvm('vgcreate', ['--yes', '--', this.name, ...this.#devices]);
  }

  async attach(id: string, isOurs: boolean): Promise<void> {
    this.#isOurs = isOurs;
    if (isOurs) await this.activateAll();
    this.#uuid = id;
  }

  /** One volume that cannot be activated, such as for a missing disk, is damaged; the others are there. */
  protected activateAll(): Promise<void> {
    return activateWhatCan('vgchange', [this.name]);
  }

  /** Runs a command that changes the metadata of the group. */
  protected change(command: string, args: string[]): Promise<unknown> {
    return this.alone(() => lvm(command, args));
  }

  /** Whatever has the name may be attached next. */
  protected forget(): void {
    this.#uuid = undefined;
  }

  async detach(): Promise<void> {
    await this.space();
    await lvm('vgchange', ['--activate', 'ln', '--', this.name]);
  }

  async destroy(): Promise<void> {
    // Unasked only when it is empty: without an answer LVM takes no volume along.
    await lvm('vgremove', ['--', this.name]);
    if (this.#devices.length > 0) await lvm('pvremove', ['--yes', '--', ...this.#devices]);
  }

  async space(): Promise<Space & { id: string }> {
    const [group] = await report('vgs', GROUP_FIELDS, ['--', this.name]);
    if (!group) throw new StowageError('io-error', `vgs says nothing of the volume group ${this.name}`);
    this.requireSame(group.vg_uuid);
    await this.deactivateUnused();
    const [capacityBytes, availableBytes] = [Number(group.vg_size), Number(group.vg_free)];
    return {
      id: group.vg_uuid!,
      capacityBytes,
      availableBytes,
      allocationBytes: capacityBytes - availableBytes,
    };
  }

  async devices(name?: string): Promise<Device[]> {
    return devicesIn(await this.rows(name), name);
  }

  /** All logical volumes, or the one of a name and those that stand on it. */
  protected async rows(name?: string): Promise<Row[]> {
    if (name !== undefined && !NAME.test(name)) return [];
    const rows = await this.lvs(name);
    if (rows.length === 0) await this.space();
    return rows;
  }

  /** As LVM tells of them, of a name that LVM may have; the one named `more` is told of too. */
  protected async lvs(name?: string, more?: string): Promise<Row[]> {
    // Of one volume those that stand on it are told too; LVM asks the kernel only for what it tells.
    const wanted = [`lv_name="${name}"`, `origin="${name}"`, ...(more ? [`lv_name="${more}"`] : [])];
    const selection = name === undefined ? [] : ['--select', wanted.join(' || ')];
    const rows = await report('lvs', VOLUME_FIELDS, [...selection, '--', this.name]);
    for (const row of rows) this.requireSame(row.vg_uuid);
    return rows;
  }

  /** Throws `pool-inaccessible` for another storage than the one that was attached. */
  protected requireSame(uuid: string | undefined): void {
    if (this.#uuid !== undefined && uuid !== this.#uuid)
      throw new StowageError('pool-inaccessible', `another volume group has the name ${this.name} now`);
  }

  async settledMark({ path, number, mark }: Device): Promise<string | undefined> {
    if (!number || mark === undefined) return undefined;
    return markOf(await settledNodeMark(path, number), thinIdIn(mark));
  }

  open(device: Device, mode: DeviceMode): Promise<Image> {
    return FileImage.open(device.path, mode === 'write' ? mode : 'read', 'block');
  }

  async setFormat({ name }: Device, format: ImageFormatName): Promise<void> {
    await this.change('lvchange', ['--addtag', formatTag(format), '--', `${this.name}/${name}`]);
  }

  setPermissions(device: Device, permissions: Permissions): Promise<void> {
    return setNodePermissions(device.path, permissions);
  }

  checkName(name: string): void {
    if (!NAME.test(name))
      throw new StowageError(
        'invalid-name',
        `a logical volume cannot be named '${name}': only letters, digits and + _ . - may be in it`,
      );
    // The device-mapper joins both names, and writes each dash twice.
    const mapped = `${this.name}-${name}`.replaceAll('-', '--');
    if (mapped.length > 120)
      throw new StowageError('invalid-name', `'${name.slice(0, 60)}…' is too long for a logical volume`);
    if (RESERVED.test(name))
      throw new StowageError('invalid-name', `LVM keeps names like '${name}' for itself`);
  }

  async create(name: string, sizeBytes: number): Promise<void> {
    // Its maker writes all of it: LVM need not look at what is there, nor zero the beginning.
    const quick = ['--wipesignatures', 'n', '--zero', 'n'];
    await this.change('lvcreate', [
      '--yes',
      ...quick,
      '--type',
      'linear',
      '--size',
      sizeOf(sizeBytes),
      '--name',
      name,
      '--',
      this.name,
    ]);
  }

  async grow(device: Device, sizeBytes: number, scratchName: string, signal?: AbortSignal): Promise<void> {
    const more = sizeBytes - device.sizeBytes;
    if (more <= 0) return;
    const target = `${this.name}/${device.name}`;
    refuseSnapshot(device);
    const [row = {}] = await report('lvs', ['lv_layout'], ['--', target]);
    const { lv_layout: layout = '' } = row;
    // What a thin volume gets reads as zeros by itself.
    if (layoutOf(row).includes('thin'))
      return void (await this.change('lvextend', ['--size', sizeOf(sizeBytes), '--', target]));
    if (layout !== 'linear')
      throw new StowageError(
        'not-supported',
        `'${device.name}' is ${layout}: what it would grow by could not be zeroed before it belongs to it; use lvextend`,
      );
    // The extents are zeroed in a volume of their own before they belong to this one: a kill leaves no old bytes in it.
    const scratch = `${this.name}/${scratchName}`;
    for (let attempt = 1; ; attempt++) {
      await this.create(scratchName, more);
      const extents = await this.#zeroed(scratchName, signal).catch(async (error) => {
        await this.remove(scratchName);
        throw error;
      });
      try {
        // Nobody who heeds the lock takes the extents in between, and writes to them.
        await this.alone(async () => {
          await lvm('lvremove', ['--yes', '--', scratch]);
          await lvm('lvextend', ['--size', sizeOf(sizeBytes), '--', target, ...extents]);
        });
        return;
      } catch (error) {
        if ((await this.devices(scratchName)).length > 0) await this.remove(scratchName);
        // Only extents that somebody else took meanwhile are worth another try.
        if (attempt === TRIES || !isStowageError(error, 'no-space')) throw error;
      }
    }
  }

  /** Zeros a volume, and gives its extents, as LVM writes them: `/dev/sdb:0-24`. */
  async #zeroed(name: string, signal: AbortSignal | undefined): Promise<string[]> {
    const [device] = await this.devices(name);
    if (!device) throw new StowageError('io-error', `the new logical volume ${name} is not there`);
    {
      await using image = await FileImage.open(device.path, 'write', 'block');
      await zeroFrom(image, 0, { signal });
      await image.flush();
    }
    const rows = await report('lvs', ['seg_pe_ranges'], ['--segments', '--', `${this.name}/${name}`]);
    return rows.flatMap((segment) => (segment.seg_pe_ranges ?? '').split(' ').filter(Boolean));
  }

  async shrink(device: Device, sizeBytes: number): Promise<void> {
    refuseSnapshot(device);
    const { name, uid } = device;
    const args = ['--force', '--yes', '--size', sizeOf(sizeBytes), '--', `${this.name}/${name}`];
    await this.alone(async () => {
      const now = (await this.rows(name)).find((row) => row.lv_name === name);
      if (now?.lv_uuid !== uid)
        throw new StowageError(
          'volume-changed',
          `another volume is called '${name}' by now; it stays as it is`,
        );
      await lvm('lvreduce', args);
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.change('lvrename', ['--', this.name, from, to]);
    if (this.#activated.delete(from)) this.#activated.add(to);
  }

  async activate(name: string): Promise<void> {
    // Thin snapshots are left out of all activations but this.
    await lvm('lvchange', ['--activate', 'ly', '--ignoreactivationskip', '--', `${this.name}/${name}`]);
    if (!this.#isOurs) this.#activated.add(name);
  }

  async keepActive(name: string, keep: boolean): Promise<boolean> {
    if (this.#isOurs) return false;
    this.#activated.delete(name);
    const activation = keep ? ['ly', '--ignoreactivationskip'] : ['ln'];
    await lvm('lvchange', ['--activate', ...activation, '--', `${this.name}/${name}`]);
    return true;
  }

  /**
   * In a group that is not ours nothing stays active that was not: other hosts may have the group too, and an active volume would be
   * seen here as it was when it was activated. What is open is tried again at the next look.
   */
  protected async deactivateUnused(): Promise<void> {
    for (const name of this.#activated)
      await lvm('lvchange', ['--activate', 'ln', '--', `${this.name}/${name}`]).then(
        () => this.#activated.delete(name),
        () => undefined,
      );
  }

  async remove(name: string): Promise<void> {
    // LVM takes the snapshots of a volume along; what is open it refuses itself, once udev has looked at it.
    for (const device of await this.devices(name)) refuseDependants(device);
    await this.lvremove([name]);
  }

  protected async lvremove(names: readonly string[]): Promise<void> {
    await this.change('lvremove', ['--yes', '--', ...names.map((name) => `${this.name}/${name}`)]);
    for (const name of names) this.#activated.delete(name);
  }
}

/** The volumes among logical volumes, or the one of a name. */
export function devicesIn(rows: readonly Row[], name?: string): Promise<Device[]> {
  const volumes = rows.filter((row) => isVolume(row) && (name === undefined || row.lv_name === name));
  return Promise.all(volumes.map((row) => deviceOf(row, rows)));
}

/** What cannot be activated, such as for a missing disk, stays as it is. */
export async function activateWhatCan(
  command: 'vgchange' | 'lvchange',
  names: readonly string[],
): Promise<void> {
  await lvm(command, ['--activate', 'ly', '--', ...names]).catch((error) => {
    if (!isStowageError(error, 'tool-failed')) throw error;
  });
}

/** The size of a classic snapshot is that of what it was taken of; what LVM would change is the room for its changes. */
function refuseSnapshot({ name, backingStore, sizeBytes, allocationBytes }: Device): void {
  if (backingStore && sizeBytes !== allocationBytes)
    throw new StowageError(
      'not-supported',
      `'${name}' is a snapshot of LVM, which has the size of its origin`,
    );
}

/** LVM takes whole sectors, and makes whole extents of them. */
export const sizeOf = (bytes: number): string => `${Math.ceil(bytes / 512) * 512}b`;
