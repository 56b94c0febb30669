import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemoryImage, Pages } from '../../agent/images/memory-image.ts';
import { firstBytes } from '../../agent/images/window.ts';

test('behind the first bytes of an image nothing is read or changed', async () => {
  const image = new MemoryImage(new Pages(100));
  await image.write(Buffer.alloc(100, 7), 0);
  const first = firstBytes(image, 60);
  const buffer = Buffer.alloc(20, 1);
  await first.read(buffer, 50);
  assert.deepEqual(buffer, Buffer.concat([Buffer.alloc(10, 7), Buffer.alloc(10)]));
  await first.read(buffer, 80);
  assert.deepEqual(buffer, Buffer.alloc(20));
  await assert.rejects(first.write(Buffer.alloc(20), 50), { code: 'invalid-argument' });
  await assert.rejects(first.zero(50, 20), { code: 'invalid-argument' });
  await first.write(Buffer.alloc(10), 50);
  const all = Buffer.alloc(100);
  await image.read(all, 0);
  assert.deepEqual(all, Buffer.concat([Buffer.alloc(50, 7), Buffer.alloc(10), Buffer.alloc(40, 7)]));
});
