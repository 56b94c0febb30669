import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { FileImage } from '../../agent/images/file-image.ts';
import { StagedImages } from '../../agent/transfer/staged-images.ts';
import { CHUNK_BYTES, ChunkMap } from '../../shared/transfer/chunks.ts';
import { DIGEST_ALGORITHMS } from '../../shared/transfer/digest.ts';
import { scratch } from '../support/scratch.ts';

const COUNT = 4;

for (const digest of DIGEST_ALGORITHMS) {
  describe(`the images of a transfer, digested with ${digest}`, () => {
    const map = new ChunkMap([{ name: '', sizeBytes: COUNT * CHUNK_BYTES, dense: false }], digest);

    async function openStaged(path: string): Promise<StagedImages> {
      const image = await FileImage.open(join(path, 'file'), 'create');
      await image.setSize(COUNT * CHUNK_BYTES);
      return StagedImages.open([image], await FileImage.open(join(path, 'journal'), 'create'), map);
    }

    /** Chunks written and on record, then the agent killed: nothing is closed, nothing was synced. */
    async function killed(path: string): Promise<Buffer<ArrayBuffer>[]> {
      const staged = await openStaged(path);
      const chunks = Array.from({ length: COUNT - 1 }, () => randomBytes(CHUNK_BYTES));
      for (const [index, bytes] of chunks.entries()) {
        const verified = Promise.resolve();
        const data = { bytes, ranges: [{ start: 0, end: bytes.length }] };
        await staged.write({ index, digest: await map.digestOf(bytes), verified, data });
      }
      return chunks;
    }
    const present = async (path: string): Promise<number[]> => {
      await using staged = await openStaged(path);
      return Array.from({ length: COUNT }, (_, index) => index).filter((index) => staged.digests.has(index));
    };

    test('a killed agent has lost nothing that it wrote', async () => {
      await using room = scratch();
      const chunks = await killed(room.path);
      assert.deepEqual(await present(room.path), [0, 1, 2]);
      const file = readFileSync(join(room.path, 'file'));
      assert.ok(file.equals(Buffer.concat([...chunks, Buffer.alloc(CHUNK_BYTES)])));
    });

    test('what a crash of the host lost is off the record, and only that', async () => {
      await using room = scratch();
      await killed(room.path);
      const file = await open(join(room.path, 'file'), 'r+');
      await file.write(Buffer.alloc(4096), 0, 4096, CHUNK_BYTES + 8192);
      await file.close();
      assert.deepEqual(await present(room.path), [0, 2]);
      // It stays off the record, though its bytes were emptied by now.
      assert.deepEqual(await present(room.path), [0, 2]);
    });

    test('what is known to be durable is not read again', async () => {
      await using room = scratch();
      const staged = await openStaged(room.path);
      const write = async (index: number): Promise<void> => {
        const bytes = randomBytes(CHUNK_BYTES);
        const data = { bytes, ranges: [{ start: 0, end: bytes.length }] };
        await staged.write({ index, digest: await map.digestOf(bytes), verified: Promise.resolve(), data });
      };
      await write(0);
      // A chunk that is written while a round of syncing is under way is not covered by it.
      const early = staged.flush();
      await Promise.all([early, write(1)]);
      await staged.flush();
      await staged[Symbol.asyncDispose]();
      writeFileSync(join(room.path, 'file'), Buffer.alloc(COUNT * CHUNK_BYTES));
      assert.deepEqual(await present(room.path), [0, 1]);
    });

    test('a torn journal costs its end only', async () => {
      await using room = scratch();
      await killed(room.path);
      const journal = join(room.path, 'journal');
      truncateSync(journal, readFileSync(journal).length - 3);
      assert.deepEqual(await present(room.path), [0, 1]);
    });
  });
}
