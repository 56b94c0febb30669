import type { Permissions } from '../../../shared/conf/permissions.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import { refuseUsedDevice } from '../../host/devices.ts';
import { FileImage } from '../../images/file-image.ts';
import type { Image } from '../../images/image.ts';
import {
  isHeld,
  isInUse,
  nodeFacts,
  nodeNumber,
  setNodePermissions,
  settledNodeMark,
  waitForNode,
} from '../../volumes/blocks/device-node.ts';
import {
  type Device,
  type DeviceMode,
  type MakingStorage,
  refuseLoss,
} from '../../volumes/blocks/device-storage.ts';
import type { Space } from '../backend.ts';
import {
  ALIGN,
  gapsOf,
  type Partition,
  type PartitionTable,
  parted,
  partedSurely,
  readTable,
} from './partition-table.ts';

/** Bytes of zeros written to the disk at once. */
const STEP = 64 << 20;

const aligned = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN;

/** A disk with a partition table whose partitions, by their names in it, are the volumes. */
export class Partitions implements MakingStorage {
  readonly type = 'block';
  readonly readsAsZeros = false;
  readonly name: string;
  #id: string | undefined;
  /** One change of the table after the other: each begins with what is there. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(disk: string) {
    this.name = disk;
  }

  async build(overwrite?: boolean): Promise<void> {
    this.#id = undefined;
    if (!overwrite) await refuseUsedDevice(this.name);
    if (await isHeld(this.name))
      throw new StowageError('volume-in-use', `${this.name} is mounted, or part of another device`);
    await parted(this.name, 'mklabel', 'gpt');
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const change = this.#last.then(work, work);
    this.#last = change.catch(() => undefined);
    return change;
  }

  async attach(id: string): Promise<void> {
    this.#id = id;
  }

  async detach(): Promise<void> {
    await this.#table();
  }

  /** An empty table stays. */
  async destroy(): Promise<void> {
    await this.#table();
  }

  async #diskBytes(): Promise<number> {
    await using disk = await FileImage.open(this.name, 'read', 'block');
    return disk.sizeBytes;
  }

  async #table(): Promise<PartitionTable> {
    const table = await readTable(this.name, await this.#diskBytes());
    if (table?.label !== 'gpt')
      throw new StowageError('pool-inaccessible', `${this.name} ${whatInstead(table?.label)}`);
    if (this.#id !== undefined && table.id !== this.#id)
      throw new StowageError('pool-inaccessible', `${this.name} is another disk than it was`);
    return table;
  }

  async space(): Promise<Space & { id: string }> {
    const table = await this.#table();
    const availableBytes = gapsOf(table).reduce((sum, { start, end }) => sum + end - start, 0);
    const capacityBytes = table.endByte - table.firstByte;
    return { id: table.id, capacityBytes, availableBytes, allocationBytes: capacityBytes - availableBytes };
  }

  async devices(name?: string): Promise<Device[]> {
    const { partitions } = await this.#table();
    const named = partitions.map((partition) => ({ partition, name: nameOf(partition, partitions) }));
    return Promise.all(
      named
        .filter((each) => (name ?? each.name) === each.name)
        .map((each) => this.#device(each.partition, each.name, name !== undefined)),
    );
  }

  async #device({ uid, node, sizeBytes }: Partition, name: string, thorough: boolean): Promise<Device> {
    const number = await nodeNumber(node);
    const { mark, permissions } = await nodeFacts(node, number);
    return {
      name,
      uid,
      path: node,
      number,
      // The counts of a node begin anew with each partition that has it.
      mark: mark && `${mark}/${uid}`,
      permissions,
      sizeBytes,
      allocationBytes: sizeBytes,
      open: thorough && (await isInUse(node)),
      dependants: [],
    };
  }

  async settledMark({ path, number, uid }: Device): Promise<string | undefined> {
    const mark = number && (await settledNodeMark(path, number));
    return mark && `${mark}/${uid}`;
  }

  checkName(name: string): void {
    if (!NAME.test(name))
      throw new StowageError(
        'invalid-name',
        `a partition cannot be named '${name.slice(0, 60)}': at most 36 letters, digits and _ . + -, with no - at its beginning`,
      );
  }

  open({ path }: Device, mode: DeviceMode): Promise<Image> {
    return FileImage.open(path, mode === 'write' ? mode : 'read', 'block');
  }

  /** Waits for its node. */
  async activate(name: string): Promise<void> {
    const { node } = await this.#find(name);
    await waitForNode(node);
  }

  async #find(name: string): Promise<Partition> {
    const { partitions } = await this.#table();
    const found = partitions.find((partition) => nameOf(partition, partitions) === name);
    if (!found) throw new StowageError('volume-not-found', `${this.name} has no partition '${name}'`);
    return found;
  }

  setPermissions({ path }: Device, permissions: Permissions): Promise<void> {
    return setNodePermissions(path, permissions);
  }

  create(name: string, sizeBytes: number): Promise<void> {
    return this.#alone(() => this.#create(name, sizeBytes));
  }

  /** In the smallest gap that is large enough. */
  async #create(name: string, sizeBytes: number): Promise<void> {
    const size = aligned(sizeBytes);
    const [gap] = gapsOf(await this.#table())
      .filter(({ start, end }) => end - start >= size)
      .toSorted((one, other) => one.end - one.start - (other.end - other.start));
    if (!gap)
      throw new StowageError('no-space', `${this.name} has no gap of ${size} bytes between its partitions`);
    const { start } = gap;
    await parted(this.name, 'unit', 'B', 'mkpart', name, `${start}B`, `${start + size - 1}B`);
    await this.activate(name);
  }

  grow({ name }: Device, sizeBytes: number, _scratch: string, signal?: AbortSignal): Promise<void> {
    return this.#alone(() => this.#grow(name, sizeBytes, signal));
  }

  /** Into what is free behind it, which is zeroed first. */
  async #grow(name: string, sizeBytes: number, signal: AbortSignal | undefined): Promise<void> {
    const { number, startBytes, sizeBytes: before } = await this.#find(name);
    const [from, end] = [startBytes + before, startBytes + aligned(sizeBytes)];
    if (end <= from) return;
    const { partitions, endByte } = await this.#table();
    // Whatever begins behind it, however it is aligned, is somebody else's.
    const next = Math.min(
      endByte,
      ...partitions.map((other) => other.startBytes).filter((start) => start >= from),
    );
    if (next < end)
      throw new StowageError(
        'no-space',
        `behind '${name}' ${this.name} has ${next - from} bytes free, not ${end - from}`,
      );
    {
      await using disk = await FileImage.open(this.name, 'write', 'block');
      for (let at = from; at < end; at += STEP) {
        signal?.throwIfAborted();
        await disk.zero(at, Math.min(STEP, end - at));
      }
      await disk.flush();
    }
    await parted(this.name, 'unit', 'B', 'resizepart', String(number), `${end - 1}B`);
  }

  shrink({ name }: Device, sizeBytes: number): Promise<void> {
    return this.#alone(async () => {
      const { number, startBytes, sizeBytes: before } = await this.#find(name);
      const end = startBytes + aligned(sizeBytes);
      if (end >= startBytes + before) return;
      await partedSurely(this.name, 'unit', 'B', 'resizepart', String(number), `${end - 1}B`);
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#alone(async () => {
      const { number } = await this.#find(from);
      if ((await this.devices(to)).length > 0)
        throw new StowageError('volume-exists', `${this.name} has a partition '${to}' already`);
      await parted(this.name, 'name', String(number), to);
    });
  }

  remove(name: string): Promise<void> {
    return this.#alone(async () => {
      for (const device of await this.devices(name)) refuseLoss(device);
      const { number } = await this.#find(name);
      await parted(this.name, 'rm', String(number));
    });
  }
}

/** What a disk without a GPT has, and what to do. */
function whatInstead(label: string | undefined): string {
  if (label === undefined) return 'has no partition table; build the pool first';
  const way =
    label === 'dos' ? "; a pool with the source format 'dos' has the partitions that are there" : '';
  return `has a table of type ${label}, not GPT${way}`;
}

const NAME = /^[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,35}$/;
/** Of what other tools named, such as "EFI system partition". */
const SHOWN = /^[^-/\p{Cc}\s][^/\p{Cc}]*$/u;

const nodeNameOf = ({ node }: Partition): string => node.slice(node.lastIndexOf('/') + 1);

/** Its name in the table; where that cannot be used, or means another one too, that of its node. */
function nameOf(partition: Partition, all: readonly Partition[]): string {
  const { name = '' } = partition;
  const isMeant = (other: Partition): boolean => other.name === name || nodeNameOf(other) === name;
  const isAlone = all.every((other) => other === partition || !isMeant(other));
  return SHOWN.test(name) && isAlone ? name : nodeNameOf(partition);
}
