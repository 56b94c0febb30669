import { type BigIntStats, closeSync, constants, openSync } from 'node:fs';
import { libc } from '../../host/libc.ts';

const AT_SYMLINK_NOFOLLOW = 0x100;
/** STATX_BASIC_STATS | STATX_BTIME */
const MASK = 0x7ff | 0x800;
/** Of struct statx. */
const SIZE = 256;
/** The words of it that count, by their offsets: uid, gid, mode, inode, size, blocks, and birth, change and modification. */
const WORDS = [20, 24, 32, 36, 40, 44, 48, 52, 80, 84, 88, 96, 100, 104, 112, 116, 120];
const MODE = 28;

/**
 * One number for all that a look at a file would tell: the odds that a change leaves it as it is are 1 to 2^53. Equal files
 * give equal numbers, however they were asked.
 */
function mix(mode: number, words: ArrayLike<number>, count: number): number {
  let high = mode | 0;
  let low = ~mode;
  for (let index = 0; index < count; index++) {
    const word = words[index]! | 0;
    high = Math.imul(high ^ word, 0x9e3779b1);
    high ^= high >>> 15;
    low = Math.imul(low + word, 0x85ebca6b) ^ high;
    low ^= low >>> 13;
  }
  return (high >>> 0) * 0x20_0000 + (low >>> 11);
}

const words = new Int32Array(WORDS.length);

/** As {@link StampReader.read}, from what is known of a file already. */
export function stampOf(stat: BigIntStats): number {
  const low = (value: bigint): number => Number(BigInt.asIntN(32, value));
  const pair = (value: bigint): [number, number] => [low(value), low(value >> 32n)];
  const time = (ns: bigint): [number, number, number] => {
    const seconds = ns / 1_000_000_000n;
    return [...pair(seconds), low(ns % 1_000_000_000n)];
  };
  words.set([
    low(stat.uid),
    low(stat.gid),
    ...pair(stat.ino),
    ...pair(stat.size),
    ...pair(stat.blocks),
    ...time(stat.birthtimeNs),
    ...time(stat.ctimeNs),
    ...time(stat.mtimeNs),
  ]);
  return mix(Number(stat.mode & 0xffffn), words, words.length);
}

/** Tells of many files of one directory whether they changed, at the least cost: without a number too large for a word. */
export class StampReader implements Disposable {
  readonly #directory: number;
  readonly #buffer = Buffer.alloc(SIZE);

  private constructor(directory: number) {
    this.#directory = directory;
  }

  /** undefined on a host without the native helper. */
  static open(path: string): StampReader | undefined {
    return libc && new StampReader(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  /** undefined for what is not there, or cannot be looked at. */
  read(name: string): number | undefined {
    const buffer = this.#buffer;
    if (libc!.statx(this.#directory, name, AT_SYMLINK_NOFOLLOW, MASK, buffer) !== 0) return undefined;
    for (let index = 0; index < WORDS.length; index++) words[index] = buffer.readInt32LE(WORDS[index]!);
    return mix(buffer.readUInt16LE(MODE), words, words.length);
  }

  [Symbol.dispose](): void {
    closeSync(this.#directory);
  }
}
