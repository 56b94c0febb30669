import { StowageError } from './errors.ts';

const POWERS = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
const UNIT_MS = { s: 1000, m: 60_000, h: 3600_000, d: 24 * 3600_000 };

/**
 * Bytes of a size such as `10G`, `1.5GiB`, `500MB` or `4096`, as libvirt's scaled integers read:
 * a bare letter or `iB` is a power of 1024, `B` after a letter a power of 1000, no suffix is bytes.
 * Throws `invalid-argument` for anything else and for sizes above 2^53-1.
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMGTPE])(iB|B)?|(bytes?|B))?$/i.exec(text.trim());
  if (!match)
    throw new StowageError(
      'invalid-argument',
      `'${text.slice(0, 40)}' is not a size; write for example 10G, 512M or 4096`,
    );
  const power = POWERS.indexOf((match[2] ?? '').toUpperCase());
  const base = match[3]?.toUpperCase() === 'B' ? 1000 : 1024;
  const bytes = Number(match[1]) * base ** power;
  if (!Number.isSafeInteger(Math.round(bytes))) {
    throw new StowageError(
      'invalid-argument',
      `size ${text.slice(0, 40)} is above the largest one handled, 8 PiB`,
    );
  }
  return Math.round(bytes);
}

/** `10737418240` as `10.0 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const power = Math.min(Math.floor(Math.log2(bytes) / 10), POWERS.length - 1);
  const value = bytes / 1024 ** power;
  return `${value.toFixed(value < 10 ? 2 : 1)} ${POWERS[power]}iB`;
}

/** `value` rounded up to the next multiple of `unit`. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Ms of a span such as `30m` or `7d`; undefined for any other text. */
export function spanOf(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  return unit === undefined ? undefined : Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
}

/** How much of a storage is in use, as df(1) counts it, in percent: of what is used and what can be. Undefined where there is neither. */
export function usedShare({
  allocationBytes,
  availableBytes,
}: {
  allocationBytes: number;
  availableBytes: number;
}): number | undefined {
  const all = allocationBytes + availableBytes;
  return all > 0 ? Math.round((100 * allocationBytes) / all) : undefined;
}
