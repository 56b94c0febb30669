import type { ReceivedStream, SentStream } from '../../../shared/conf/stream.ts';
import { isStowageError, StowageError } from '../../../shared/util/errors.ts';
import type { Device, DeviceStreams } from '../../volumes/blocks/device-storage.ts';
import { type Dataset, datasets, FORMAT, RECEIVING, zfs } from './zfs.ts';
import { isOfBase } from './zfs-snapshots.ts';

/** Properties of a sender that would keep a volume from its users here. */
const NOT_OURS = ['volmode', 'snapdev'];

/** Zvols as streams of `zfs send`, as Proxmox VE exports and imports them. A place is a dataset beside the volumes. */
export class ZfsStreams implements DeviceStreams {
  readonly #parent: string;
  readonly #changed: (name: string) => Promise<void>;

  /** `parent` is the dataset that the volumes are in; `changed` is called when one was brought up to date. */
  constructor(parent: string, changed: (name: string) => Promise<void>) {
    this.#parent = parent;
    this.#changed = changed;
  }

  #at(name: string): string {
    return `${this.#parent}/${name}`;
  }

  /** A volume and its snapshots, oldest first, by what they are called behind the name of the volume. */
  async #snapshotsOf(device: Device): Promise<string[]> {
    const at = `${this.#at(device.name)}@`;
    const rows = await datasets(this.#at(device.name));
    return rows.filter(({ name }) => name.startsWith(at)).map(({ name }) => name.slice(at.length));
  }

  async send(device: Device, { snapshot, older, base }: SentStream) {
    const ids = (await this.#snapshotsOf(device)).filter((id) => !isOfBase(`@${id}`));
    for (const id of [snapshot, ...(base === undefined ? [] : [base])])
      if (!ids.includes(id)) throw new StowageError('snapshot-not-found', `the volume has no snapshot ${id}`);
    if (base !== undefined && ids.indexOf(base) >= ids.indexOf(snapshot))
      throw new StowageError('snapshot-not-found', `the snapshot ${base} is not older than ${snapshot}`);
    // Of -R all that is older comes along, of -p nothing but the properties; of -I what is between, of -i nothing.
    const from = base === undefined ? [older ? '-R' : '-p'] : ['-p', older ? '-I' : '-i', `@${base}`];
    return { tool: 'zfs', args: ['send', ...from, '--', `${this.#at(device.name)}@${snapshot}`] };
  }

  /** ZFS takes it only onto the last snapshot, and only where nothing was written since. Nothing of it is mounted. */
  async receiveOnto(device: Device, { base = '', snapshot }: ReceivedStream) {
    const at = this.#at(device.name);
    const ids = await this.#snapshotsOf(device);
    if (!ids.includes(base))
      throw new StowageError('snapshot-not-found', `the volume has no snapshot ${base}`);
    if (ids.at(-1) !== base)
      throw new StowageError('volume-changed', `${base} is not its last snapshot: ${ids.at(-1)} is newer`);
    await refuseWritten(at, base);
    if (snapshot !== base) await zfs('zfs', 'set', `${RECEIVING}=on`, at);
    return { tool: 'zfs', args: ['recv', '-u', '--', at] };
  }

  async endOnto(device: Device, { base = '', snapshot, deleteSnapshot }: ReceivedStream): Promise<void> {
    const at = this.#at(device.name);
    await this.#endReceiving(device.name);
    const ids = await this.#snapshotsOf(device);
    const newest = ids.at(-1);
    if (snapshot !== undefined && newest !== snapshot)
      throw new StowageError(
        'invalid-image',
        `the stream ends with the snapshot ${newest}, and not with ${snapshot}`,
      );
    if (deleteSnapshot === undefined) return;
    if (ids.indexOf(deleteSnapshot) <= ids.indexOf(base))
      throw new StowageError('invalid-image', `the stream holds no snapshot ${deleteSnapshot}`);
    await zfs('zfs', 'destroy', `${at}@${deleteSnapshot}`);
  }

  async endCut(): Promise<void> {
    for (const { name, [RECEIVING]: receiving } of await datasets(this.#parent))
      if (receiving !== undefined && name.startsWith(`${this.#parent}/`) && !name.includes('@'))
        await this.#endReceiving(name.slice(this.#parent.length + 1));
  }

  async #endReceiving(name: string): Promise<void> {
    const at = this.#at(name);
    await this.#settle(at);
    await this.#changed(name);
    await zfs('zfs', 'inherit', RECEIVING, at);
  }

  /** Takes back what properties of the sender would keep from the users of a volume here. */
  async #settle(at: string): Promise<void> {
    for (const property of NOT_OURS) await zfs('zfs', 'inherit', property, at);
    await zfs('zfs', 'set', `${FORMAT}=raw`, at);
    const isBase = (await datasets(at)).some(({ name }) => isOfBase(name));
    await zfs('zfs', 'set', `readonly=${isBase ? 'on' : 'off'}`, at);
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
    await this.#settle(at);
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

/** Throws `volume-changed`. Versions of ZFS that cannot tell it refuse the stream. */
async function refuseWritten(at: string, base: string): Promise<void> {
  const told = await zfs('zfs', 'get', '-Hp', '-o', 'value', 'written', at).catch((error) => {
    if (!/bad property|invalid property/i.test(String(error))) throw error;
    return undefined;
  });
  const writtenBytes = Number(told?.stdout ?? 0);
  if (writtenBytes !== 0)
    throw new StowageError(
      'volume-changed',
      `the volume was written to since its snapshot ${base}: what was written (${writtenBytes} bytes) would be lost; take it back to that, by vol snapshot switch`,
    );
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
