import { createDecipheriv } from 'node:crypto';
import { SECTOR } from './header.ts';

/** Decrypts whole sectors in place, AES in XTS mode; the first has this number (`plain64`). */
export function decryptSectors(key: Buffer, bytes: Buffer, firstSector: number): void {
  const algorithm = key.length === 64 ? 'aes-256-xts' : 'aes-128-xts';
  const vector = Buffer.alloc(16);
  for (let at = 0; at < bytes.length; at += SECTOR) {
    vector.writeBigUInt64LE(BigInt(firstSector + at / SECTOR));
    const sector = bytes.subarray(at, at + SECTOR);
    createDecipheriv(algorithm, key, vector).update(sector).copy(sector);
  }
}

/**
 * Reads bytes that are encrypted sector by sector. `start` is where in the image sector 0 lies; `offset` counts from there.
 * What is read begins and ends anywhere.
 */
export async function readDecrypted(
  image: { read(buffer: Uint8Array, offset: number): Promise<void> },
  key: Buffer,
  start: number,
  buffer: Uint8Array,
  offset: number,
): Promise<void> {
  const from = Math.floor(offset / SECTOR) * SECTOR;
  const to = Math.ceil((offset + buffer.length) / SECTOR) * SECTOR;
  const sectors = Buffer.allocUnsafe(to - from);
  await image.read(sectors, start + from);
  decryptSectors(key, sectors, from / SECTOR);
  buffer.set(sectors.subarray(offset - from, offset - from + buffer.length));
}
