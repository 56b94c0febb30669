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
  | { type: 'data'; offset: number; length: number }
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

/** Puts the bytes of a stream where they are wanted, each copied once. */
class Reader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #pending: Buffer[] = [];

  constructor(stream: AsyncIterable<Uint8Array>) {
    this.#iterator = stream[Symbol.asyncIterator]();
  }

  async #more(): Promise<boolean> {
    const next = await this.#iterator.next();
    if (next.done) return false;
    const { buffer, byteOffset, byteLength } = next.value;
    this.#pending.push(Buffer.from(buffer, byteOffset, byteLength));
    return true;
  }

  /** Fills `target`; false at a clean end before its first byte. */
  async fill(target: Uint8Array): Promise<boolean> {
    for (let filled = 0; filled < target.length; ) {
      if (this.#pending.length === 0 && !(await this.#more())) {
        if (filled === 0) return false;
        throw new StowageError('stream-cut', 'the extent stream ended inside a frame');
      }
      const first = this.#pending[0]!;
      const part = first.length > target.length - filled ? first.subarray(0, target.length - filled) : first;
      target.set(part, filled);
      filled += part.length;
      if (part.length === first.length) this.#pending.shift();
      else this.#pending[0] = first.subarray(part.length);
    }
    return true;
  }

  /** As {@link fill}, in the middle of a frame, where there is no clean end. */
  async rest(target: Uint8Array): Promise<void> {
    if (!(await this.fill(target)))
      throw new StowageError('stream-cut', 'the extent stream ended inside a frame');
  }
}

function offsetOf(header: Buffer, at: number): number {
  const value = header.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new StowageError('stream-corrupt', 'a frame lies outside any volume');
  return Number(value);
}

/**
 * Reads frames until the end frame. The payload of a data frame goes straight to the place that `room` gives for it,
 * before the frame is yielded. Throws `stream-cut` when the stream stops early, `stream-corrupt` for junk.
 */
export async function* readFrames(
  stream: AsyncIterable<Uint8Array>,
  room: (offset: number, length: number) => Uint8Array,
): AsyncGenerator<Frame> {
  const reader = new Reader(stream);
  const header = Buffer.alloc(HEADER);
  for (;;) {
    if (!(await reader.fill(header)))
      throw new StowageError('stream-cut', 'the extent stream ended without its end frame');
    const type = header[0];
    const offset = offsetOf(header, 4);
    const length = offsetOf(header, 12);
    if (type === TYPES.end) {
      yield { type: 'end' };
      return;
    }
    if (type === TYPES.zero) {
      yield { type: 'zero', offset, length };
    } else if (type === TYPES.data && length > 0 && length <= MAX_PAYLOAD) {
      await reader.rest(room(offset, length));
      yield { type: 'data', offset, length };
    } else if (type === TYPES.chunk && length > 0 && length <= CHUNK_BYTES) {
      const payload = Buffer.alloc(DIGEST_BYTES);
      await reader.rest(payload);
      yield { type: 'chunk', offset, length, payload };
    } else {
      throw new StowageError(
        'stream-corrupt',
        `a frame of type ${type} and length ${length} is not part of the extent stream`,
      );
    }
  }
}
