import { StowageError } from '../../../shared/util/errors.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import {
  type Device,
  type DeviceId,
  type DeviceMode,
  refuseLoss,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import { lvm, report } from './lvm.ts';
import { type Row, snapshotIdOf } from './rows.ts';
import { ThinSnapshots } from './thin-snapshots.ts';
import { type Alone, activateWhatCan, devicesIn, NAME, sizeOf, VolumeGroup } from './volume-group.ts';

const POOL_FIELDS = [
  'vg_uuid',
  'lv_uuid',
  'lv_size',
  'data_percent',
  'lv_metadata_size',
  'metadata_percent',
  'zero',
];

const percentOf = (bytes: number, percent = ''): number => Math.round((bytes * Number(percent)) / 100);

/** Names given to one command: its arguments have room for many more. */
const AT_ONCE = 1000;

/** A pool of thin volumes in a volume group of LVM. Volumes take blocks of it as they are written, and share them. */
export class ThinPool extends VolumeGroup {
  readonly createsAtOnce = true;
  readonly #pool: string;
  /** Of the pool that was attached. */
  #uuid: string | undefined;
  #zeroes = false;
  readonly snapshots = new ThinSnapshots({
    groupName: this.name,
    rowsOf: (name) => this.rows(name),
    openNode: (path) => this.#openNode(path, 'read'),
    clone: (of, name) => this.#clone(of, name),
    change: (command, args) => this.change(command, args),
  });

  constructor(group: string, pool: string, devices: readonly string[], alone: Alone) {
    super(group, devices, alone);
    this.#pool = pool;
  }

  /** Whether blocks are zeroed before a volume gets them: `lvchange --zero n` keeps a pool from that. */
  override get readsAsZeros(): boolean {
    return this.#zeroes;
  }

  get #target(): string {
    return `${this.name}/${this.#pool}`;
  }

  /** Makes the pool of all that is free in its group, which is made too where devices are given. */
  override async build(overwrite?: boolean): Promise<void> {
    this.forget();
    this.#uuid = undefined;
    const groups = await report('vgs', ['vg_name'], []);
    if (!groups.some((group) => group.vg_name === this.name)) await super.build(overwrite);
    const [there] = (await report('lvs', ['lv_name'], ['--', this.name])).filter(
      (row) => row.lv_name === this.#pool,
    );
    if (there) throw new StowageError('pool-not-empty', `${this.#target} is there already`);
    await lvm('lvcreate', [
      '--yes',
      '--type',
      'thin-pool',
      '--zero',
      'y',
      // Some stays for the metadata, its spare, and what they may grow by.
      '--extents',
      '90%FREE',
      '--name',
      this.#pool,
      '--',
      this.name,
    ]);
    // Who writes to a full pool hears of it at once.
    await lvm('lvchange', ['--errorwhenfull', 'y', '--', this.#target]);
  }

  override async attach(id: string, isOurs: boolean): Promise<void> {
    const [group = '', pool] = id.split('/');
    await super.attach(group, isOurs);
    this.#uuid = pool;
  }

  protected override async activateAll(): Promise<void> {
    await lvm('lvchange', ['--activate', 'ly', '--', this.#target]);
    const volumes = (await this.rows()).filter((row) => snapshotIdOf(row) === undefined);
    for (let at = 0; at < volumes.length; at += AT_ONCE)
      await activateWhatCan('lvchange', this.#targets(volumes.slice(at, at + AT_ONCE)));
  }

  override async detach(): Promise<void> {
    // Of several names LVM lets go of some and not of others: what is open is found first.
    const rows = await this.rows();
    const open = rows.find((row) => row.lv_attr?.[5] === 'o');
    if (open) throw new StowageError('volume-in-use', `${this.name}/${open.lv_name} in use.`);
    const active = rows.filter((row) => Number(row.lv_kernel_major) >= 0);
    if (active.length > 0) await lvm('lvchange', ['--activate', 'ln', '--', ...this.#targets(active)]);
  }

  /** The pool alone: other volumes may be in its group. */
  override async destroy(): Promise<void> {
    // Of what is not active LVM asks only whether its volumes may go along: without an answer they may not.
    await lvm('lvchange', ['--activate', 'ln', '--', this.#target]);
    await lvm('lvremove', ['--', this.#target]);
  }

  #targets(rows: readonly Row[]): string[] {
    return rows.map((row) => `${this.name}/${row.lv_name}`);
  }

  override async space(): Promise<Space & { id: string }> {
    const [pool] = await report('lvs', POOL_FIELDS, ['--', this.#target]).catch((error) => {
      if (!/failed to find logical volume/i.test(String(error))) throw error;
      throw new StowageError('pool-inaccessible', `the thin pool ${this.#target} is not there`);
    });
    if (!pool) throw new StowageError('io-error', `lvs says nothing of the thin pool ${this.#target}`);
    this.requireSame(pool.vg_uuid);
    this.#requireSamePool(pool);
    this.#zeroes = pool.zero === 'zero';
    await this.deactivateUnused();
    const capacityBytes = Number(pool.lv_size);
    const allocationBytes = percentOf(capacityBytes, pool.data_percent);
    const metadataBytes = Number(pool.lv_metadata_size);
    return {
      id: `${pool.vg_uuid}/${pool.lv_uuid}`,
      capacityBytes,
      allocationBytes,
      availableBytes: capacityBytes - allocationBytes,
      metadata: {
        capacityBytes: metadataBytes,
        allocationBytes: percentOf(metadataBytes, pool.metadata_percent),
      },
    };
  }

  /** With them LVM tells of the pool, in the same look: what is not there is not in this pool. */
  protected override async rows(name?: string): Promise<Row[]> {
    if (name !== undefined && !NAME.test(name)) return [];
    const rows = await this.lvs(name, this.#pool);
    const pool = rows.find((row) => row.lv_name === this.#pool);
    if (!pool) throw new StowageError('pool-inaccessible', `the thin pool ${this.#target} is not there`);
    this.#requireSamePool(pool);
    return rows.filter((row) => row.pool_lv === this.#pool);
  }

  #requireSamePool({ lv_uuid: uuid }: Row): void {
    if (this.#uuid !== undefined && uuid !== this.#uuid)
      throw new StowageError('pool-inaccessible', `another thin pool has the name ${this.#target} now`);
  }

  override open(device: Device, mode: DeviceMode): Promise<Image> {
    return this.#openNode(device.path, mode === 'write' ? mode : 'read');
  }

  #openNode(path: string, mode: 'read' | 'write'): Promise<Image> {
    return FileImage.open(path, mode, this.#zeroes ? 'thin' : 'block');
  }

  override async create(name: string, sizeBytes: number): Promise<void> {
    await this.change('lvcreate', [
      '--yes',
      '--wipesignatures',
      'n',
      '--type',
      'thin',
      '--virtualsize',
      sizeOf(sizeBytes),
      '--name',
      name,
      '--thinpool',
      this.#pool,
      '--',
      this.name,
    ]);
  }

  /** It shares its blocks with what it was cloned from, and lives on without that. */
  clone({ name: of }: DeviceId, name: string): Promise<void> {
    return this.#clone(of, name);
  }

  async #clone(of: string, name: string): Promise<void> {
    await this.change('lvcreate', [
      '--yes',
      '--snapshot',
      '--permission',
      'rw',
      '--setactivationskip',
      'n',
      '--name',
      name,
      '--',
      `${this.name}/${of}`,
    ]);
  }

  cloneLinked(base: DeviceId, name: string): Promise<void> {
    return this.clone(base, name);
  }

  async setBase({ uid, isBase: now = false }: Device, isBase: boolean): Promise<void> {
    // LVM fails where there is nothing to change, and not where there is no such volume any more.
    const change = ['--permission', isBase ? 'r' : 'rw', '--select', `lv_uuid="${uid}"`, '--', this.name];
    if (isBase !== now) await this.change('lvchange', change);
  }

  override async remove(name: string): Promise<void> {
    const rows = await this.rows(name);
    for (const device of await devicesIn(rows, name)) refuseLoss(device);
    const snapshots = rows.filter((row) => row.origin === name && snapshotIdOf(row) !== undefined);
    await this.lvremove([...snapshots.map((row) => row.lv_name ?? ''), name]);
  }
}
