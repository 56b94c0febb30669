import type { ReceivedStream, SentStream } from '../../../shared/conf/stream.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { Device, DeviceStreams } from '../../volumes/blocks/device-storage.ts';
import { type Dataset, datasets, FORMAT, zfs } from './zfs.ts';
import { isOfBase } from './zfs-snapshots.ts';

/** Properties of a sender that would keep a volume from its users here. */
const NOT_OURS = ['volmode', 'snapdev'];

/** Zvols as streams of `zfs send`, as Proxmox VE exports and imports them. A place is a dataset beside the volumes. */
export class ZfsStreams implements DeviceStreams {
  readonly #parent: string;
  readonly #requireSnapshot: (device: Device, id: string) => Promise<unknown>;

  /** `parent` is the dataset that the volumes are in; `requireSnapshot` throws `snapshot-not-found`. */
  constructor(parent: string, requireSnapshot: (device: Device, id: string) => Promise<unknown>) {
    this.#parent = parent;
    this.#requireSnapshot = requireSnapshot;
  }

  #at(name: string): string {
    return `${this.#parent}/${name}`;
  }

  async send(device: Device, { snapshot, older }: SentStream) {
    await this.#requireSnapshot(device, snapshot);
    // Of -R all that is older comes along, of -p nothing but the properties.
    return { tool: 'zfs', args: ['send', older ? '-R' : '-p', '--', `${this.#at(device.name)}@${snapshot}`] };
  }

  /** Nothing of it is mounted, whatever it says of itself. */
  async receive(place: string) {
    return { tool: 'zfs', args: ['recv', '-u', '--', this.#at(place)] };
  }

  async take(place: string, { snapshot, deleteSnapshot }: ReceivedStream, name: string): Promise<void> {
    const at = this.#at(place);
    const rows = await datasets(at);
    refuseOthers(rows, at);
    const has = (id: string): boolean => rows.some((row) => row.name === `${at}@${id}`);
    for (const id of [snapshot, deleteSnapshot])
      if (id !== undefined && !has(id))
        throw new StowageError('invalid-image', `the stream holds no snapshot ${id}`);
    const newest = rows.at(-1)?.name.slice(at.length + 1);
    if (snapshot !== undefined && newest !== snapshot)
      throw new StowageError(
        'invalid-image',
        `the stream ends with the snapshot ${newest}, and not with ${snapshot}`,
      );
    if (deleteSnapshot !== undefined) await zfs('zfs', 'destroy', `${at}@${deleteSnapshot}`);
    for (const property of NOT_OURS) await zfs('zfs', 'inherit', property, at);
    await zfs('zfs', 'set', `${FORMAT}=raw`, at);
    const isBase = rows.some((row) => isOfBase(row.name));
    await zfs('zfs', 'set', `readonly=${isBase ? 'on' : 'off'}`, at);
    await zfs('zfs', 'rename', at, this.#at(name));
  }

  async drop(place: string): Promise<void> {
    await zfs('zfs', 'destroy', '-r', this.#at(place)).catch((error) => {
      if (!isStowageError(error, 'volume-not-found')) throw error;
    });
  }

  async places(): Promise<string[]> {
    const rows = await datasets(this.#parent);
    const depth = this.#parent.split('/').length + 1;
    const below = rows.filter(({ name }) => !name.includes('@') && name.split('/').length === depth);
    return below
      .map(({ name }) => name.slice(this.#parent.length + 1))
      .filter((name) => name.startsWith('.'));
  }
}

/** Throws `invalid-image` for what is no single volume: a stream may hold file systems, and many datasets. */
function refuseOthers(rows: readonly Dataset[], at: string): void {
  const other = rows.find(({ name }) => name !== at && !name.startsWith(`${at}@`));
  const volume = rows.find(({ name }) => name === at);
  if (volume?.type !== 'volume')
    throw new StowageError(
      'invalid-image',
      `the stream holds no volume${volume ? `, but a ${volume.type}` : ''}`,
    );
  if (other)
    throw new StowageError('invalid-image', `the stream holds more than one dataset, such as ${other.name}`);
}
