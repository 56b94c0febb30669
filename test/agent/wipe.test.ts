import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { overwrite } from '../../agent/formats/wipe.ts';
import { MemoryImage, Pages } from '../../agent/images/memory-image.ts';
import { WIPE_ALGORITHMS, type WipeAlgorithm } from '../../shared/conf/wipe-algorithms.ts';

const MIB = 1 << 20;

/** How often each writes all data, and what is there at last: one byte, or what nobody can know. */
const PASSES: Record<Exclude<WipeAlgorithm, 'trim'>, [passes: number, last?: number]> = {
  zero: [1, 0x00],
  nnsa: [3, 0x00],
  dod: [3, 0xff],
  bsi: [9, 0x7f],
  gutmann: [35],
  schneier: [7],
  pfitzner7: [7],
  pfitzner33: [33],
  random: [1],
};

for (const algorithm of WIPE_ALGORITHMS) {
  if (algorithm === 'trim') continue;
  const [passes, last] = PASSES[algorithm];
  test(`a wipe by ${algorithm} writes all data ${passes} times, and each pass is durable before the next`, async () => {
    const pages = new Pages(4 * MIB);
    const image = new MemoryImage(pages);
    const [before, size] = [randomBytes(MIB + 64), MIB + 65_536];
    await image.write(before, MIB);
    let [written, flushes] = [0, 0];
    const { write, flush } = { write: image.write.bind(image), flush: image.flush.bind(image) };
    image.write = (bytes, offset) => {
      written += bytes.length;
      return write(bytes, offset);
    };
    image.flush = () => {
      flushes++;
      return flush();
    };
    await overwrite(image, algorithm);
    assert.equal(written, passes * size, 'holes stay holes');
    assert.equal(flushes, passes);
    const after = Buffer.alloc(size);
    await image.read(after, MIB);
    if (last !== undefined) assert.ok(after.every((byte) => byte === last));
    else assert.ok(!after.subarray(0, before.length).equals(before));
  });
}

test('a cancelled wipe ends between two writes', async () => {
  const image = new MemoryImage(new Pages(MIB));
  await image.write(randomBytes(MIB), 0);
  await assert.rejects(overwrite(image, 'gutmann', AbortSignal.abort(new Error('enough'))), /enough/);
});
