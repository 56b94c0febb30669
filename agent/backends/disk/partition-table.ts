import { z } from 'zod';
import { StowageError } from '../../../shared/util/errors.ts';
import { run, runOk, wordsOf } from '../../host/run.ts';

const SECTOR = 512;

const dumpSchema = z.object({
  partitiontable: z.object({
    label: z.string(),
    id: z.string().optional(),
    firstlba: z.number().optional(),
    lastlba: z.number().optional(),
    sectorsize: z.number().default(SECTOR),
    partitions: z
      .array(
        z.object({
          node: z.string(),
          start: z.number(),
          size: z.number(),
          type: z.string().optional(),
          uuid: z.string().optional(),
          name: z.string().optional(),
        }),
      )
      .default([]),
  }),
});

export interface Partition {
  /** In the table; the nodes of partitions end with it. */
  number: number;
  node: string;
  startBytes: number;
  sizeBytes: number;
  /** Of GPT, and made of the disk's for others: never used again. */
  uid: string;
  /** Of GPT. */
  name?: string;
  /** A GUID in GPT, a hexadecimal number in a master boot record. */
  type?: string;
}

export interface PartitionTable {
  label: string;
  id: string;
  /** What partitions can lie in: its first byte, and the one behind its last. */
  firstByte: number;
  endByte: number;
  partitions: Partition[];
}

/** The partition table of a disk; undefined where there is none. */
export async function readTable(disk: string, diskBytes: number): Promise<PartitionTable | undefined> {
  const result = await run('sfdisk', ['--json', '--', disk]);
  if (result.status !== 0) {
    const words = wordsOf(result);
    if (/does not contain a recognized partition table/i.test(words)) return undefined;
    throw new StowageError('io-error', `sfdisk cannot read ${disk}: ${words}`);
  }
  return parseTable(result.stdout, diskBytes);
}

/** What `sfdisk --json` prints. */
export function parseTable(output: string, diskBytes: number): PartitionTable {
  const { partitiontable: table } = dumpSchema.parse(JSON.parse(output));
  const { label, id = '', sectorsize: sector } = table;
  const partitions = table.partitions.map(({ node, start, size, uuid, name, type }): Partition => {
    const number = Number(/(\d+)$/.exec(node)?.[1]);
    return {
      number,
      node,
      startBytes: start * sector,
      sizeBytes: size * sector,
      uid: uuid ?? `${id}-${number}`,
      name,
      type,
    };
  });
  return {
    label,
    id,
    firstByte: (table.firstlba ?? 2048) * sector,
    endByte: table.lastlba === undefined ? diskBytes : (table.lastlba + 1) * sector,
    partitions,
  };
}

/** Partitions begin and end at multiples of this, as all tools of today make them. */
export const ALIGN = 1 << 20;

/** What is free between partitions, aligned. */
export function gapsOf({ firstByte, endByte, partitions }: PartitionTable): { start: number; end: number }[] {
  const gaps: { start: number; end: number }[] = [];
  let at = firstByte;
  const add = (end: number): void => {
    const [start, stop] = [Math.ceil(at / ALIGN) * ALIGN, Math.floor(end / ALIGN) * ALIGN];
    if (stop > start) gaps.push({ start, end: stop });
  };
  for (const { startBytes, sizeBytes } of partitions.toSorted(
    (one, other) => one.startBytes - other.startBytes,
  )) {
    add(startBytes);
    at = Math.max(at, startBytes + sizeBytes);
  }
  add(endByte);
  return gaps;
}

/** Runs a command of parted, which tells the kernel of each partition alone: others may be in use. */
export async function parted(disk: string, ...command: string[]): Promise<void> {
  await runOk('parted', ['--script', '--align', 'none', '--', disk, ...command]);
}

/** The same where parted asks whether data may be lost. */
export async function partedSurely(disk: string, ...command: string[]): Promise<void> {
  const args = ['---pretend-input-tty', '--align', 'none', '--', disk, ...command];
  await runOk('parted', args, { input: 'Yes\n' });
}
