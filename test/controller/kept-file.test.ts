import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { keptFile, keptKey } from '../../controller/store/kept-file.ts';
import { scratch } from '../support/scratch.ts';

test('a file that is kept is made once, whole, for its owner only', async () => {
  await using room = scratch();
  const path = join(room.path, 'id');
  // What a kill in the middle of writing left.
  writeFileSync(`${path}.new`, 'hal');
  assert.equal(
    keptFile(path, () => 'whole'),
    'whole',
  );
  assert.equal(
    keptFile(path, () => assert.fail('made again')),
    'whole',
  );
  assert.deepEqual(readdirSync(room.path), ['id']);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test('a file that cannot be made leaves none; one that cannot be read is no missing one', async () => {
  await using room = scratch();
  const path = join(room.path, 'id');
  const fail = (): string => {
    throw new Error('no random numbers');
  };
  assert.throws(() => keptFile(path, fail), /no random numbers/);
  assert.deepEqual(readdirSync(room.path), []);
  mkdirSync(path);
  assert.throws(() => keptFile(path, () => 'x'), { code: 'EISDIR' });
  const key = join(room.path, 'key.pem');
  const made = keptKey(key);
  assert.ok(keptKey(key).equals(made));
  writeFileSync(key, '');
  assert.throws(() => keptKey(key));
});
