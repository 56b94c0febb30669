import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { z } from 'zod';
import { RecordLog } from '../../agent/host/record-log.ts';
import { scratch } from '../support/scratch.ts';

const open = (path: string): Promise<RecordLog<number>> => RecordLog.open(path, z.number());
const all = async (path: string): Promise<Record<string, number>> => {
  await using log = await open(path);
  return Object.fromEntries(log.entries());
};

describe('a log of records', () => {
  test('holds what was promised, whatever is killed when', async () => {
    await using room = scratch();
    const path = join(room.path, 'log');
    const log = await open(path);
    await Promise.all([log.set('a', 1), log.set('b', 2), log.delete('a'), log.set('c', 3)]);
    // Not closed: as a kill leaves it. At each byte a torn end costs the last record at the most.
    const whole = readFileSync(path);
    for (let length = whole.length; length >= 0; length--) {
      const torn = join(room.path, `torn-${length}`);
      writeFileSync(torn, whole.subarray(0, length));
      const found = await all(torn);
      assert.ok(Object.values(found).every((value) => [1, 2, 3].includes(value)));
      if (length === whole.length) assert.deepEqual(found, { b: 2, c: 3 });
      await using again = await open(torn);
      await again.set('d', 4);
      assert.deepEqual(await all(torn), { ...found, d: 4 });
    }
  });

  test('damaged before its end, or unreadable, it is an error and never empty', async () => {
    await using room = scratch();
    const path = join(room.path, 'log');
    {
      await using log = await open(path);
      await log.set('a', 1);
      await log.set('b', 2);
    }
    const bytes = readFileSync(path);
    bytes[12] = bytes[12]! ^ 1;
    writeFileSync(path, bytes);
    await assert.rejects(open(path), { code: 'io-error' });
    if (process.getuid?.() !== 0) {
      chmodSync(path, 0);
      await assert.rejects(open(path), { code: 'EACCES' });
    }
    await assert.rejects(open(room.path), { code: 'EISDIR' });
  });

  test('a change costs one line, and a file that is mostly out of date is written anew', async () => {
    await using room = scratch();
    const path = join(room.path, 'log');
    await using log = await open(path);
    await Promise.all(Array.from({ length: 5000 }, (_, index) => log.set(`volume-${index}`, index)));
    const before = statSync(path).size;
    await log.set('volume-17', 99);
    assert.ok(statSync(path).size - before < 40);
    for (let round = 0; round < 3; round++)
      await Promise.all(Array.from({ length: 5000 }, (_, index) => log.set(`volume-${index}`, round)));
    assert.ok(statSync(path).size < 3 * before, 'it was compacted');
    assert.equal(Object.keys(await all(path)).length, 5000);
  });
});
