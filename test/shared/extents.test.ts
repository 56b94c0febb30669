import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { CHUNK_BYTES, ChunkMap } from '../../shared/transfer/chunks.ts';
import { decodeExtents } from '../../shared/transfer/receive.ts';
import { encodeExtents } from '../../shared/transfer/send.ts';
import type { Source } from '../../shared/transfer/source.ts';

function memorySource(bytes: Buffer): Source {
  return {
    sizeBytes: bytes.length,
    async *extents(from, to) {
      yield { offset: from, length: to - from };
    },
    read: async (buffer, offset) => void bytes.copy(buffer as Buffer, 0, offset, offset + buffer.length),
    close: async () => undefined,
  };
}

async function encode(bytes: Buffer, map: ChunkMap): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of encodeExtents([memorySource(bytes)], map)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** The stream in pieces as a network would cut it. */
async function* inPieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function decode(stream: Buffer, map: ChunkMap, size: number, pieceBytes: number): Promise<Buffer> {
  const out = Buffer.alloc(size, 0);
  await decodeExtents(inPieces(stream, pieceBytes), map, async ({ index, data }) => {
    for (const { start, end } of data?.ranges ?? [])
      data!.bytes.copy(out, index * CHUNK_BYTES + start, start, end);
  });
  return out;
}

describe('the extent stream', () => {
  test('any mix of data and zeros arrives as it was, however the network cuts it', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ zero: fc.boolean(), length: fc.integer({ min: 1, max: 3 << 20 }) }), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.integer({ min: 1000, max: 3 << 20 }),
        async (runs, pieceBytes) => {
          const bytes = Buffer.concat(
            runs.map(({ zero, length }) => (zero ? Buffer.alloc(length) : randomBytes(length))),
          );
          const map = new ChunkMap([{ name: '', sizeBytes: bytes.length, dense: false }]);
          assert.ok((await decode(await encode(bytes, map), map, bytes.length, pieceBytes)).equals(bytes));
        },
      ),
      { numRuns: 25 },
    );
  });

  const bytes = randomBytes(9 << 20);
  const map = new ChunkMap([{ name: '', sizeBytes: bytes.length, dense: false }]);

  test('a flipped bit anywhere is refused', async () => {
    const stream = await encode(bytes, map);
    for (let round = 0; round < 12; round++) {
      const damaged = Buffer.from(stream);
      const at = Math.floor(Math.random() * (damaged.length - 24));
      // The three spare bytes of a header carry nothing.
      damaged[at]! ^= 0x10;
      const result = await decode(damaged, map, bytes.length, 65536).catch(
        (error) => error as Error & { code: string },
      );
      if (Buffer.isBuffer(result)) assert.ok(result.equals(bytes));
      else assert.match(result.code, /stream-corrupt|digest-mismatch|stream-cut/);
    }
  });

  test('a stream that ends early is refused at every cut', async () => {
    const stream = await encode(bytes, map);
    for (let round = 0; round < 12; round++) {
      const cut = stream.subarray(0, Math.floor(Math.random() * stream.length));
      await assert.rejects(decode(cut, map, bytes.length, 65536), { code: 'stream-cut' });
    }
  });

  test('zeros cost 20 bytes a chunk', async () => {
    const empty = Buffer.alloc(64 << 20);
    const stream = await encode(empty, new ChunkMap([{ name: '', sizeBytes: empty.length, dense: false }]));
    assert.equal(stream.length, 33 * 20);
  });
});
