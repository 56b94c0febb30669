import type { Forecast } from '../../shared/conf/pool-usage.ts';

export interface Sample {
  /** ms since the epoch. */
  at: number;
  bytes: number;
}

const DAY_MS = 24 * 3600_000;
/** What follows one another closely is not independent: means of so many parts of the time are. */
const PARTS = 24;
/** What was seen for a shorter time tells no rate. */
const SHORTEST_MS = 3600_000;

/** The two-sided 95 % quantile of Student's t with {@link PARTS} - 2 degrees of freedom. */
const T95 = 2.074;

/**
 * The rate at which something fills up, by least squares over the means of {@link PARTS} equal parts of the time that was seen, with
 * its 95 % interval, and when `capacityBytes` is reached. undefined where less than {@link SHORTEST_MS} was seen. A value holds from
 * its sample to the next.
 */
export function forecast(samples: readonly Sample[], capacityBytes: number): Forecast | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (!first || !last || last.at - first.at < SHORTEST_MS) return undefined;
  const points = meansOf(samples, first.at, last.at);
  const count = points.length;
  const meanAt = points.reduce((sum, { at }) => sum + at, 0) / count;
  const meanBytes = points.reduce((sum, { bytes }) => sum + bytes, 0) / count;
  let [squares, products] = [0, 0];
  for (const { at, bytes } of points) {
    squares += (at - meanAt) ** 2;
    products += (at - meanAt) * (bytes - meanBytes);
  }
  const slope = products / squares;
  const residuals = points.reduce(
    (sum, { at, bytes }) => sum + (bytes - meanBytes - slope * (at - meanAt)) ** 2,
    0,
  );
  const error = Math.sqrt(residuals / (count - 2) / squares) * T95;
  const fullAt = (rate: number): number | undefined => {
    const at = last.at + Math.max(0, capacityBytes - last.bytes) / rate;
    // Farther away than a date can be.
    return rate > 0 && at < 8e15 ? Math.round(at) : undefined;
  };
  return {
    from: first.at,
    to: last.at,
    bytesPerDay: Math.round(slope * DAY_MS),
    errorBytesPerDay: Math.round(error * DAY_MS),
    fullAt: fullAt(slope),
    fullAtEarliest: fullAt(slope + error),
    fullAtLatest: fullAt(slope - error),
  };
}

/** Of each part of the time its middle, and the mean of what was in use. */
function meansOf(samples: readonly Sample[], from: number, to: number): Sample[] {
  const length = (to - from) / PARTS;
  const sums = new Float64Array(PARTS);
  for (const [index, { at, bytes }] of samples.entries()) {
    const end = samples[index + 1]?.at ?? to;
    let part = Math.min(PARTS - 1, Math.floor((at - from) / length));
    for (let start = at; start < end; part++) {
      const stop = part === PARTS - 1 ? end : Math.min(end, from + (part + 1) * length);
      sums[part]! += bytes * Math.max(0, stop - start);
      start = stop;
    }
  }
  return [...sums].map((sum, part) => ({ at: from + (part + 0.5) * length, bytes: sum / length }));
}
