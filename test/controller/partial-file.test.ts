import assert from 'node:assert/strict';
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { PartialFile } from '../../controller/cli/partial-file.ts';
import { scratch } from '../support/scratch.ts';

const state = (volumeId: string, sizeBytes = 8) => ({ volumeId, etag: 'x', as: 'image', sizeBytes });

describe('a file that is being downloaded', () => {
  test('goes on where it was left, in the same state only', async () => {
    await using room = scratch();
    const path = join(room.path, 'file');
    {
      await using file = await PartialFile.open(path, state('a'));
      await file.write(Buffer.from('aaaa'), 0);
      file.reached(1);
    }
    {
      await using file = await PartialFile.open(path, state('a'));
      assert.equal(file.chunks, 1);
    }
    {
      // Another one begins, and is killed before it has noted anything.
      const file = await PartialFile.open(path, state('b'));
      assert.equal(file.chunks, 0);
      await file.write(Buffer.from('bb'), 0);
    }
    await using file = await PartialFile.open(path, state('a'));
    assert.equal(file.chunks, 0);
    await file.write(Buffer.from('aaaaaaaa'), 0);
    await file.finish();
    assert.equal(readFileSync(path, 'utf8'), 'aaaaaaaa');
    assert.deepEqual(readdirSync(room.path), ['file']);
  });

  test('that was made shorter, or replaced, begins anew', async () => {
    await using room = scratch();
    const path = join(room.path, 'file');
    const leave = async (): Promise<void> => {
      await using file = await PartialFile.open(path, state('a'));
      await file.write(Buffer.from('aaaa'), 0);
      file.reached(1);
    };
    await leave();
    truncateSync(`${path}.part`, 0);
    assert.equal(
      await PartialFile.open(path, state('a')).then(async (file) => {
        await file[Symbol.asyncDispose]();
        return file.chunks;
      }),
      0,
    );
    await leave();
    writeFileSync(`${path}.part.json`, '{"torn');
    await using file = await PartialFile.open(path, state('a'));
    assert.equal(file.chunks, 0);
  });

  test('gives its name to no other, and takes that of none', async () => {
    await using room = scratch();
    const path = join(room.path, 'file');
    await using first = await PartialFile.open(path, state('a'));
    await using second = await PartialFile.open(path, state('b'));
    await first.write(Buffer.from('aaaaaaaa'), 0);
    await second.write(Buffer.from('bbbbbbbb'), 0);
    await assert.rejects(first.finish(), { code: 'file-exists' });
    writeFileSync(path, 'came meanwhile');
    await assert.rejects(second.finish(), { code: 'file-exists' });
    assert.equal(readFileSync(path, 'utf8'), 'came meanwhile');
    await second.finish(true);
    assert.equal(readFileSync(path, 'utf8'), 'bbbbbbbb');
  });
});
