import { StowageError } from '../util/errors.ts';
import { CHUNK_BYTES } from './chunks.ts';

/**
 * The extent stream, `application/vnd.stowage.extents`, version 1. Frames of a 20-byte header and a payload:
 *
 *     u8 type | 3 bytes 0 | u64 big-endian offset | u64 big-endian length | payload
 *
 * `data` carries `length` bytes (at most 1 MiB) for `offset`; `zero` says that a run of whole chunks is zeros; `chunk`
 * ends one chunk (its offset and length) with its digest: what no data frame covered reads as zeros; `end` ends the
 * stream, so that a cut one is told from a finished one. Offsets count from the start of the transfer's address space.
 *
 * Between two agents the sink asks for what it lacks: `want` a chunk, whose frames `same` follows; `compare` a chunk
 * with a digest, answered by `same` or `other`; `message` carries JSON of `length` bytes, such as the ticket and what went wrong.
 */
export const EXTENTS_TYPE = 'application/vnd.stowage.extents';
export const MAX_PAYLOAD = 1 << 20;
const MAX_MESSAGE = 64 << 10;
const HEADER = 20;

const TYPES = ['', 'data', 'zero', 'chunk', 'end', 'want', 'compare', 'same', 'other', 'message'] as const;
export type FrameType = Exclude<(typeof TYPES)[number], ''>;

/** `payload`: the digest of `chunk` and `compare`, the text of `message`; that of `data` went to its place. */
export interface Frame {
  type: FrameType;
  offset: number;
  length: number;
  payload: Buffer;
}

export function frameHeader(type: FrameType, offset: number, length: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header[0] = TYPES.indexOf(type);
  header.writeBigUInt64BE(BigInt(offset), 4);
  header.writeBigUInt64BE(BigInt(length), 12);
  return header;
}

export function messageFrame(message: unknown): Buffer {
  const payload = Buffer.from(JSON.stringify(message));
  return Buffer.concat([frameHeader('message', 0, payload.length), payload]);
}

const NOTHING = Buffer.alloc(0);

function uint(header: Buffer, at: number): number {
  const value = header.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER))
    throw new StowageError('stream-corrupt', 'a frame lies outside any volume');
  return Number(value);
}

export interface FrameHandler {
  /** Where the payload of a data frame belongs. */
  room(offset: number, length: number): Uint8Array;
  /** A whole frame has arrived. */
  frame(frame: Frame): void;
}

/** Takes a stream in the pieces it comes in, copies each payload once, and calls back frame by frame. */
export class FrameParser {
  readonly #digestBytes: number;
  readonly #handler: FrameHandler;
  readonly #header = Buffer.alloc(HEADER);
  #target: Uint8Array = this.#header;
  #filled = 0;
  #frame: Frame | undefined;

  constructor(digestBytes: number, handler: FrameHandler) {
    this.#digestBytes = digestBytes;
    this.#handler = handler;
  }

  /** Whether all that came so far is whole frames. */
  get atBoundary(): boolean {
    return this.#filled === 0 && this.#frame === undefined;
  }

  /** Throws `stream-corrupt` for junk, and what the handler throws. */
  feed(piece: Uint8Array): void {
    for (let used = 0; used < piece.length; ) {
      const count = Math.min(this.#target.length - this.#filled, piece.length - used);
      this.#target.set(piece.subarray(used, used + count), this.#filled);
      this.#filled += count;
      used += count;
      if (this.#filled === this.#target.length) this.#filledUp();
    }
  }

  #filledUp(): void {
    this.#filled = 0;
    let frame = this.#frame;
    if (!frame) {
      frame = this.#begin();
      if (this.#target.length > 0) {
        this.#frame = frame;
        return;
      }
    }
    this.#frame = undefined;
    this.#target = this.#header;
    this.#handler.frame(frame);
  }

  /** The frame of the header; `#target` becomes the place for its payload. */
  #begin(): Frame {
    const type = TYPES[this.#header[0]!];
    const offset = uint(this.#header, 4);
    const length = uint(this.#header, 12);
    const fits = type !== undefined && type !== '' && length <= this.#longest(type);
    if (!fits || (type === 'data' && length === 0)) {
      throw new StowageError(
        'stream-corrupt',
        `a frame of type ${this.#header[0]} and length ${length} is not part of the extent stream`,
      );
    }
    if (type === 'data') {
      this.#target = this.#handler.room(offset, length);
      return { type, offset, length, payload: NOTHING };
    }
    const payload =
      type === 'chunk' || type === 'compare'
        ? Buffer.alloc(this.#digestBytes)
        : type === 'message'
          ? Buffer.alloc(length)
          : NOTHING;
    this.#target = payload;
    return { type, offset, length, payload };
  }

  #longest(type: FrameType): number {
    if (type === 'data') return MAX_PAYLOAD;
    if (type === 'message') return MAX_MESSAGE;
    return type === 'zero' ? Number.MAX_SAFE_INTEGER : CHUNK_BYTES;
  }
}
