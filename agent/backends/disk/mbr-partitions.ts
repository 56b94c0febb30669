import { StowageError } from '../../../shared/util/errors.ts';
import { FileImage } from '../../images/file-image.ts';
import type { NodeUnit, UnitSource } from '../../volumes/blocks/node-units.ts';
import { type Partition, readTable } from './partition-table.ts';

/** Types of partitions that only hold logical ones. */
const EXTENDED: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);

const isExtended = ({ type = '' }: Partition): boolean => EXTENDED.has(Number.parseInt(type, 16));

/** The partitions of a disk with a master boot record, by the names of their nodes, as its table has no others. */
export class MbrPartitions implements UnitSource {
  readonly name: string;
  #id: string | undefined;

  constructor(disk: string) {
    this.name = disk;
  }

  async #table() {
    await using disk = await FileImage.open(this.name, 'read', 'block');
    const table = await readTable(this.name, disk.sizeBytes);
    if (table?.label !== 'dos')
      throw new StowageError(
        'pool-inaccessible',
        `${this.name} has ${table ? `a table of type ${table.label}` : 'no partition table'}, not a master boot record`,
      );
    if (this.#id !== undefined && table.id !== this.#id)
      throw new StowageError('pool-inaccessible', `${this.name} is another disk than it was`);
    return table;
  }

  async connect(): Promise<void> {
    this.#id = undefined;
  }

  /** From the first call on after {@link connect} the disk must stay the same. */
  async id(): Promise<string> {
    this.#id = (await this.#table()).id;
    return this.#id;
  }

  async units(): Promise<NodeUnit[]> {
    const { id, partitions } = await this.#table();
    return partitions
      .filter((partition) => !isExtended(partition))
      .map(({ node, startBytes, sizeBytes }) => ({
        name: node.slice(node.lastIndexOf('/') + 1),
        // Logical partitions get other numbers when one before them goes: where it begins it stays.
        uid: `${id}-${startBytes}`,
        path: node,
        sizeBytes,
      }));
  }
}
