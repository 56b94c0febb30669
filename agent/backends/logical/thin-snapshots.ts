import type { Snapshot } from '../../../shared/conf/volume.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Image } from '../../images/image.ts';
import type { Device, DeviceSnapshots } from '../../volumes/blocks/device-storage.ts';
import { SharedReading } from '../../volumes/blocks/shared-reading.ts';
import { lvm } from './lvm.ts';
import { type Row, snapshotIdOf, snapshotTag } from './rows.ts';

/** None ends with a dot: that is the name of a copy, see {@link ThinSnapshots.switch}. */
const ID = /^[A-Za-z0-9_]([A-Za-z0-9+_.-]{0,62}[A-Za-z0-9+_-])?$/;

const copyOf = (name: string): string => (name.endsWith('.') ? name.slice(0, -1) : `${name}.`);

/** What snapshots need of the thin pool that they are in. */
interface PoolOfSnapshots {
  groupName: string;
  /** A volume and what was taken of it. */
  rowsOf(name: string): Promise<Row[]>;
  /** Opens the node of a logical volume for reading. */
  openNode(path: string): Promise<Image>;
  /** Makes a volume of what another holds. */
  clone(of: string, name: string): Promise<void>;
  /** Runs a command that changes the metadata of the group. */
  change(command: string, args: string[]): Promise<unknown>;
}

/**
 * Snapshots of thin volumes: thin volumes themselves, read-only, with a tag that says of which snapshot, and the volume as
 * their origin. Those of Proxmox VE, `snap_VOLUME_ID`, are snapshots too.
 */
export class ThinSnapshots implements DeviceSnapshots {
  readonly #pool: PoolOfSnapshots;
  readonly #readers = new SharedReading();

  constructor(pool: PoolOfSnapshots) {
    this.#pool = pool;
  }

  #target(name: string): string {
    return `${this.#pool.groupName}/${name}`;
  }

  async #all(device: Device): Promise<Map<string, Row>> {
    const rows = await this.#pool.rowsOf(device.name);
    return new Map(
      rows.flatMap((row) => {
        const id = row.origin === device.name ? snapshotIdOf(row) : undefined;
        return id === undefined ? [] : [[id, row]];
      }),
    );
  }

  async #row(device: Device, id: string): Promise<Row> {
    const row = (await this.#all(device)).get(id);
    if (row === undefined) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
    return row;
  }

  async #find(device: Device, id: string): Promise<string> {
    return (await this.#row(device, id)).lv_name ?? '';
  }

  async markOf(device: Device, id: string): Promise<string> {
    return (await this.#row(device, id)).lv_uuid ?? '';
  }

  async open(device: Device, id: string): Promise<Image> {
    const { lv_name: name = '', lv_path: path = '' } = await this.#row(device, id);
    const change = async (...how: string[]): Promise<void> =>
      void (await lvm('lvchange', [...how, '--', this.#target(name)]));
    return this.#readers.open(name, {
      // What a kill leaves active is let go of when the pool is stopped, or goes with the snapshot.
      prepare: async () => {
        await change('--activate', 'ly', '--ignoreactivationskip');
        return () => change('--activate', 'ln');
      },
      open: () => this.#pool.openNode(path),
    });
  }

  async list(device: Device): Promise<Snapshot[]> {
    return [...(await this.#all(device))].map(([id, row]) => ({
      id,
      current: false,
      allocationBytes: Math.round((Number(row.lv_size) * (Number(row.data_percent) || 0)) / 100),
    }));
  }

  async create(device: Device, id: string): Promise<void> {
    await this.#refuseTaken(device, id);
    await this.#take(device.name, `snap_${device.name}_${id}`, id);
  }

  /** Those of Proxmox VE say only by the name of their volume whose they are: each gets our tag too. */
  async keepTo(device: Device): Promise<void> {
    for (const [id, { lv_name: name = '', lv_tags: tags = '' }] of await this.#all(device))
      if (!tags.split(',').includes(snapshotTag(id)))
        await this.#pool.change('lvchange', ['--addtag', snapshotTag(id), '--', this.#target(name)]);
  }

  /** Throws `invalid-name`, `snapshot-exists` for what no new snapshot can be called. */
  async #refuseTaken(device: Device, id: string): Promise<void> {
    if (!ID.test(id)) throw new StowageError('invalid-name', `a snapshot cannot be named '${id}' here`);
    if ((await this.#all(device)).has(id))
      throw new StowageError('snapshot-exists', `the snapshot ${id} exists already`);
  }

  /** What is written to the volume is durable before: lvcreate suspends it for a moment. */
  async #take(of: string, name: string, id: string): Promise<void> {
    await this.#pool.change('lvcreate', [
      '--yes',
      '--snapshot',
      '--setactivationskip',
      'y',
      '--permission',
      'r',
      '--addtag',
      snapshotTag(id),
      '--name',
      name,
      '--',
      this.#target(of),
    ]);
  }

  async clone(device: Device, id: string, name: string): Promise<void> {
    await this.#pool.clone(await this.#find(device, id), name);
  }

  async switch(device: Device, id: string): Promise<void> {
    const name = await this.#find(device, id);
    await this.#removeLeftover(name);
    // LVM consumes the snapshot that a volume becomes: a copy of it, which has the volume as origin then, is the snapshot.
    await this.#take(name, copyOf(name), id);
    await this.#pool.change('lvconvert', ['--yes', '--merge', '--', this.#target(name)]);
    // LVM puts off a merge, with success, where the volume was opened meanwhile.
    if ((await this.#all(device)).get(id)?.lv_name !== copyOf(name))
      throw new StowageError(
        'volume-in-use',
        `'${device.name}' was opened meanwhile; it becomes what it was at ${id} when it is activated again`,
      );
  }

  /** A copy that a kill left before the merge stands on the snapshot still; anything else of its name is somebody's. */
  async #removeLeftover(snapshot: string): Promise<void> {
    const copy = copyOf(snapshot);
    const rows = await this.#pool.rowsOf(copy);
    const leftover = rows.find((row) => row.lv_name === copy);
    if (leftover?.origin === snapshot) await this.#remove(leftover);
  }

  async rename(device: Device, id: string, to: string): Promise<void> {
    const name = await this.#find(device, id);
    await this.#refuseTaken(device, to);
    await this.#removeLeftover(name);
    const wanted = `snap_${device.name}_${to}`;
    // A kill in between leaves the old id, which its tag says.
    if (name !== wanted)
      await this.#pool.change('lvrename', ['--', this.#target(name), this.#target(wanted)]);
    await this.#pool.change('lvchange', [
      ...['--deltag', snapshotTag(id), '--addtag', snapshotTag(to)],
      ...['--', this.#target(wanted)],
    ]);
  }

  async delete(device: Device, id: string): Promise<void> {
    const row = await this.#row(device, id);
    await this.#removeLeftover(row.lv_name ?? '');
    await this.#remove(row);
  }

  /** By its uuid: under its name there may be a later one by now, of another host. */
  async #remove({ lv_uuid: uid }: Row): Promise<void> {
    await this.#pool.change('lvremove', [
      '--yes',
      '--select',
      `lv_uuid="${uid}"`,
      '--',
      this.#pool.groupName,
    ]);
  }
}
