import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALIGN, gapsOf, parseTable, readTable } from '../../agent/backends/disk/partition-table.ts';
import { scratch } from '../support/scratch.ts';

const MIB = 1 << 20;

/** A disk in a file, with a table that sfdisk makes of `lines`. */
function diskWith(path: string, sizeMiB: number, lines: readonly string[]): string {
  const disk = join(path, 'disk');
  writeFileSync(disk, '');
  truncateSync(disk, sizeMiB * MIB);
  if (lines.length > 0) execFileSync('sfdisk', ['--quiet', disk], { input: `${lines.join('\n')}\n` });
  return disk;
}

test('a table of GPT is read as sfdisk made it, and the gaps are what is left, aligned', async () => {
  await using room = scratch();
  const disk = diskWith(room.path, 64, [
    'label: gpt',
    'start=4MiB, size=8MiB, name="one"',
    // Old tools align to tracks: such a partition begins and ends within a MiB.
    'start=40000, size=10001, name="EFI system partition"',
  ]);
  const table = await readTable(disk, 64 * MIB);
  assert.equal(table?.label, 'gpt');
  const [one, other] = table.partitions;
  assert.deepEqual([one?.startBytes, one?.sizeBytes, one?.name, one?.number], [4 * MIB, 8 * MIB, 'one', 1]);
  assert.deepEqual([other?.startBytes, other?.sizeBytes], [40_000 * 512, 10_001 * 512]);
  const gaps = gapsOf(table);
  for (const { start, end } of gaps) {
    assert.equal(start % ALIGN, 0);
    assert.equal(end % ALIGN, 0);
    for (const { startBytes, sizeBytes } of table.partitions)
      assert.ok(end <= startBytes || start >= startBytes + sizeBytes, 'no gap touches a partition');
  }
  assert.deepEqual(
    gaps.map(({ start, end }) => [start / MIB, end / MIB]),
    [
      [1, 4],
      [12, 19],
      [25, 63],
    ],
  );
});

test('a disk without a table has none, and one that cannot be read is an error', async () => {
  await using room = scratch();
  assert.equal(await readTable(diskWith(room.path, 8, []), 8 * MIB), undefined);
  await assert.rejects(readTable(join(room.path, 'absent'), 8 * MIB), { code: 'io-error' });
});

test('sectors of 4096 bytes are reckoned with, and partitions of MBR have an id by their disk', () => {
  const dump = {
    partitiontable: {
      label: 'dos',
      id: '0xabcd',
      sectorsize: 4096,
      partitions: [{ node: '/dev/nvme0n1p2', start: 512, size: 256, type: '83' }],
    },
  };
  const [partition] = parseTable(JSON.stringify(dump), 64 * MIB).partitions;
  assert.equal(partition?.startBytes, 2 * MIB);
  assert.equal(partition.sizeBytes, MIB);
  assert.equal(partition.uid, '0xabcd-2');
});
