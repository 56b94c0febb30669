import { checked, isTooSmall } from './librbd.ts';

/** A number that C writes to memory of ours. */
export function cell(): { readonly buffer: Buffer; readonly value: bigint } {
  const buffer = Buffer.alloc(8);
  return {
    buffer,
    get value() {
      return buffer.readBigUInt64LE();
    },
  };
}

/** The text up to the first NUL. */
export const textOf = (buffer: Buffer): string => buffer.toString('utf8').replace(/\0.*/s, '');

export interface ArrayCall<T> {
  what: string;
  entryBytes: number;
  call(entries: Buffer, count: Buffer): Promise<number>;
  /** Of an entry, by where it begins. */
  read(entries: Buffer, offset: number): T;
  /** Gives back what C has put into the entries. */
  free(entries: Buffer, count: number): void;
  /** Where C says how many there are: in its answer, or in the memory that the room was given in. */
  countIn: 'answer' | 'memory';
}

/** What a call gives that fills an array, and answers ERANGE while that is too small. */
export async function arrayOf<T>({
  what,
  entryBytes,
  call,
  read,
  free,
  countIn,
}: ArrayCall<T>): Promise<T[]> {
  for (let room = 64; ; room *= 4) {
    const count = cell();
    count.buffer.writeBigUInt64LE(BigInt(room));
    const entries = Buffer.alloc(room * entryBytes);
    const result = await call(entries, count.buffer);
    if (isTooSmall(result)) continue;
    checked(result, what);
    const found = countIn === 'answer' ? result : Number(count.value);
    const values = Array.from({ length: found }, (_, index) => read(entries, index * entryBytes));
    if (found > 0) free(entries, found);
    return values;
  }
}
