import { StowageError } from '../util/errors.ts';
import { CHUNK_BYTES, DIGEST_BYTES } from './chunks.ts';

/**
 * The extent stream, `application/vnd.stowage.extents`, version 1. Frames of a 20-byte header and a payload:
 *
 *     u8 type | 3 bytes 0 | u64 big-endian offset | u64 big-endian length | payload
 *
 * `data` carries `length` bytes (at most 1 MiB) for `offset`; `zero` says that one whole chunk is zeros; `chunk` ends one
 * chunk (its offset and length) with its SHA-256: what no data frame covered reads as zeros; `end` ends the stream, so
 * that a cut one is told from a finished one. Offsets count from the start of the transfer's address space.
 */
export const EXTENTS_TYPE = 'application/vnd.stowage.extents';
export const MAX_PAYLOAD = 1 << 20;
const HEADER = 20;

export type Frame =
  | { type: 'data'; offset: number; length: number; payload: Buffer }
  | { type: 'zero'; offset: number; length: number }
  | { type: 'chunk'; offset: number; length: number; payload: Buffer }
  | { type: 'end' };

const TYPES = { data: 1, zero: 2, chunk: 3, end: 4 } as const;

export function frameHeader(type: keyof typeof TYPES, offset: number, length: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header[0] = TYPES[type];
  header.writeBigUInt64BE(BigInt(offset), 4);
  header.writeBigUInt64BE(BigInt(length), 12);
  return header;
}

/** Collects the bytes of a stream into pieces of the wanted length, without copying more than once. */
class Reader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #pending: Buffer[] = [];
  #size = 0;

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async #more(): Promise<boolean> {
    const next = await this.#iterator.next();
    if (next.done) return false;
    const { buffer, byteOffset, byteLength } = next.value;
    this.#pending.push(Buffer.from(buffer, byteOffset, byteLength));
    this.#size += byteLength;
    return true;
  }

  /** Exactly `length` bytes; undefined at a clean end before the first of them. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#size < length) {
      if (await this.#more()) continue;
      if (this.#size === 0) return undefined;
      throw new StowageError('stream-cut', 'the extent stream ended inside a frame');
    }
    const first = this.#pending[0]!;
    this.#size -= length;
    if (first.length > length) {
      this.#pending[0] = first.subarray(length);
      return first.subarray(0, length);
    }
    const parts: Buffer[] = [];
    for (let missing = length; missing > 0; ) {
      const part = this.#pending.shift()!;
      if (part.length > missing) {
        this.#pending.unshift(part.subarray(missing));
        parts.push(part.subarray(0, missing));
        missing = 0;
      } else {
        parts.push(part);
        missing -= part.length;
      }
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
  }
}

function offsetOf(header: Buffer, at: number): number {
  const value = header.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new StowageError('stream-corrupt', 'a frame lies outside any volume');
  return Number(value);
}

/** Reads frames until the end frame. Throws `stream-cut` when the stream stops before it, `stream-corrupt` for junk. */
export async function* readFrames(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  const reader = new Reader(stream);
  for (;;) {
    const header = await reader.take(HEADER);
    if (!header) throw new StowageError('stream-cut', 'the extent stream ended without its end frame');
    const type = header[0];
    const offset = offsetOf(header, 4);
    const length = offsetOf(header, 12);
    if (type === TYPES.end) {
      yield { type: 'end' };
      return;
    }
    if (type === TYPES.zero) {
      yield { type: 'zero', offset, length };
      continue;
    }
    if (type === TYPES.data && length > 0 && length <= MAX_PAYLOAD) {
      yield { type: 'data', offset, length, payload: await payload(reader, length) };
      continue;
    }
    if (type === TYPES.chunk && length > 0 && length <= CHUNK_BYTES) {
      yield { type: 'chunk', offset, length, payload: await payload(reader, DIGEST_BYTES) };
      continue;
    }
    throw new StowageError(
      'stream-corrupt',
      `a frame of type ${type} and length ${length} is not part of the extent stream`,
    );
  }
}

async function payload(reader: Reader, length: number): Promise<Buffer> {
  const bytes = await reader.take(length);
  if (!bytes) throw new StowageError('stream-cut', 'the extent stream ended inside a frame');
  return bytes;
}
