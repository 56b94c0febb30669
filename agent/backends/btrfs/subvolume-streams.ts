import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ReceivedStream, SentStream } from '../../../shared/conf/stream.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { entriesIfExists, setPermissions, syncDirectory } from '../../host/files.ts';
import type { Device, DeviceStreams } from '../../volumes/blocks/device-storage.ts';
import { btrfs, FIRST_INODE, subvolumeAt } from './btrfs.ts';
import type { SubvolumeSnapshots } from './subvolume-snapshots.ts';

/** The image in the subvolume of a raw volume. */
const IMAGE = 'disk.raw';
/** More snapshots than any volume has. */
const MOST_ENTRIES = 10_000;

/** A subvolume in a stream: the volume, and the snapshot of it that it is. */
interface Part {
  volume: string;
  id: string;
  path: string;
  /** Rises with each subvolume that is made. */
  transaction: bigint;
}

/**
 * Subvolumes as streams of `btrfs send`, as Proxmox VE exports and imports them: each snapshot as `VOLUME@ID`. A place is a directory of the
 * pool's own.
 */
export class SubvolumeStreams implements DeviceStreams {
  readonly #pool: string;
  readonly #own: string;
  readonly #snapshots: SubvolumeSnapshots;

  /** `pool` is the directory of the volumes, `own` one that nobody else works in. */
  constructor(pool: string, own: string, snapshots: SubvolumeSnapshots) {
    this.#pool = pool;
    this.#own = own;
    this.#snapshots = snapshots;
  }

  get #all(): string {
    return join(this.#own, 'streams');
  }

  async #make(place: string): Promise<string> {
    const directory = join(this.#all, place);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return directory;
  }

  async send(device: Device, { snapshot, older, base }: SentStream, place: string) {
    if (base !== undefined)
      throw new StowageError(
        'not-supported',
        'streams of btrfs begin with a whole volume here, and not with a snapshot',
      );
    const path = await this.#snapshots.pathOf(device, snapshot);
    const directory = await this.#make(place);
    // A stream names its subvolumes as they are called when it is written.
    const volume = device.name.replace(/\.raw$/, '');
    const paths: string[] = [];
    for (const each of older ? await this.#upTo(device, path) : [{ id: snapshot, path }]) {
      const named = join(directory, `${volume}@${each.id}`);
      await btrfs('subvolume', 'snapshot', '-r', '--', each.path, named);
      paths.push(named);
    }
    return { tool: 'btrfs', args: ['-q', 'send', '-e', '--', ...paths] };
  }

  /** The snapshots of a volume up to the one at a path, oldest first. */
  async #upTo(device: Device, path: string): Promise<{ id: string; path: string }[]> {
    const ids = await this.#snapshots.ids(device.uid);
    const all = await Promise.all(
      ids.map(async (id) => {
        const each = await this.#snapshots.pathOf(device, id);
        return { ...(await subvolumeAt(each)), id, path: each };
      }),
    );
    all.sort(byTransaction);
    return all.slice(0, all.findIndex((each) => each.path === path) + 1);
  }

  /** Confined to the place: a stream may name any path. */
  async receive(place: string) {
    return { tool: 'btrfs', args: ['-q', 'receive', '-C', '-e', '--', await this.#make(place)] };
  }

  async take(place: string, { snapshot, deleteSnapshot }: ReceivedStream, name: string): Promise<void> {
    const parts = await this.#partsIn(join(this.#all, place));
    const ids = parts.map(({ id }) => id);
    for (const id of [snapshot, deleteSnapshot])
      if (id !== undefined && !ids.includes(id))
        throw new StowageError('invalid-image', `the stream holds no snapshot ${id}`);
    const current = parts.at(-1)!;
    if (snapshot !== undefined && current.id !== snapshot)
      throw new StowageError(
        'invalid-image',
        `the stream ends with the snapshot ${current.id}, and not with ${snapshot}`,
      );
    const path = join(this.#pool, name);
    await btrfs('subvolume', 'snapshot', '--', current.path, path);
    await setPermissions(join(path, IMAGE), { mode: 0o600, owner: 0, group: 0 });
    const { id: uid } = await subvolumeAt(path);
    for (const part of parts)
      if (part.id !== deleteSnapshot) await this.#snapshots.add(uid, part.id, part.path);
    await syncDirectory(this.#pool);
  }

  /** What came, oldest first. Throws `invalid-image` for what are not snapshots of one raw volume. */
  async #partsIn(directory: string): Promise<Part[]> {
    const entries = await readdir(directory);
    if (entries.length === 0 || entries.length > MOST_ENTRIES)
      throw new StowageError('invalid-image', `the stream holds ${entries.length} subvolumes`);
    const parts: Part[] = [];
    for (const entry of entries) {
      const [, volume, id] = /^([^@]+)@([^@]+)$/.exec(entry) ?? [];
      if (volume === undefined || id === undefined || !this.#snapshots.isId(id))
        throw new StowageError(
          'invalid-image',
          `the stream holds '${entry}', which is no snapshot of a volume`,
        );
      parts.push({
        volume,
        id,
        path: join(directory, entry),
        transaction: await wholeImage(join(directory, entry)),
      });
    }
    const other = parts.find(({ volume }) => volume !== parts[0]!.volume);
    if (other)
      throw new StowageError('invalid-image', `the stream holds '${parts[0]!.volume}' and '${other.volume}'`);
    return parts.sort(byTransaction);
  }

  async drop(place: string): Promise<void> {
    const directory = join(this.#all, place);
    for (const entry of await entriesIfExists(directory)) {
      const path = join(directory, entry);
      if ((await lstat(path)).ino === FIRST_INODE)
        await btrfs('subvolume', 'delete', '--commit-after', '--', path);
    }
    await rm(directory, { recursive: true, force: true });
  }

  places(): Promise<string[]> {
    return entriesIfExists(this.#all);
  }
}

/** Throws `invalid-image` for a subvolume that did not come whole, or holds anything but the image of a raw volume. */
async function wholeImage(path: string): Promise<bigint> {
  const { ino } = await lstat(path);
  const { readOnly, transaction } = ino === FIRST_INODE ? await subvolumeAt(path) : {};
  // It takes writes until its end has come.
  if (!readOnly || transaction === undefined)
    throw new StowageError('invalid-image', 'the stream ends before its subvolume is whole');
  const [entry, ...more] = await readdir(path);
  const stat = entry === IMAGE && more.length === 0 ? await lstat(join(path, IMAGE)) : undefined;
  if (!stat?.isFile())
    throw new StowageError('invalid-image', `the stream holds other files than ${IMAGE}: ${entry ?? 'none'}`);
  if (!Number.isSafeInteger(stat.size) || stat.size === 0)
    throw new StowageError('invalid-image', `the stream holds an image of ${stat.size} bytes`);
  return transaction;
}

const byTransaction = (left: { transaction: bigint }, right: { transaction: bigint }): number =>
  left.transaction < right.transaction ? -1 : 1;
