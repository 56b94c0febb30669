import { z } from 'zod';

const percent = z.number().min(1).max(100);

/** From when on a pool counts as nearly full, and how much its volumes may have together. */
export const poolLimitsSchema = z
  .strictObject({
    /** Of its data, or of its metadata, that is in use. */
    warningPercent: percent.default(80),
    criticalPercent: percent.default(95),
    /** The capacities of its volumes together, in percent of its own. Absent: no limit. */
    provisionedPercent: z.number().min(1).max(100_000).optional(),
  })
  .refine(
    ({ warningPercent, criticalPercent }) => warningPercent <= criticalPercent,
    'the limit of the warning must not be above that of the critical state',
  );
export type PoolLimits = z.output<typeof poolLimitsSchema>;

export const poolFillSchema = z.enum(['normal', 'warning', 'critical']);
export type PoolFill = z.output<typeof poolFillSchema>;

/** Room for what a storage notes of its own, such as which blocks a thin volume has: when it is full nothing can be written. */
export const metadataSpaceSchema = z.object({ capacityBytes: z.number(), allocationBytes: z.number() });
export type MetadataSpace = z.output<typeof metadataSpaceSchema>;

/** What a host tells of a pool beyond its sizes. */
export const poolUsageFields = {
  metadata: metadataSpaceSchema.optional(),
  /** What its volumes may grow to together; more than the capacity where it is over-provisioned. */
  provisionedBytes: z.number().optional(),
  /** By its limits; absent where that says nothing, as of units that are made elsewhere, which are always all there is. */
  fill: poolFillSchema.optional(),
  /** What lies in its trash, and what that took when it came there; absent where it is empty. */
  trash: z.object({ volumeCount: z.number().int(), allocationBytes: z.number() }).optional(),
};

/** How fast something fills up, by what was seen of it. Times are ms since the epoch. */
export const forecastSchema = z.object({
  /** When what is told here was seen first, and last. */
  from: z.number(),
  to: z.number(),
  /** Negative where it empties. */
  bytesPerDay: z.number(),
  /** The true rate lies within so much of it in 95 of 100 cases, if it goes on as before. */
  errorBytesPerDay: z.number(),
  /** When it is full; absent where it does not fill up. */
  fullAt: z.number().optional(),
  /** The same at the highest rate within the error, and at the lowest. */
  fullAtEarliest: z.number().optional(),
  fullAtLatest: z.number().optional(),
});
export type Forecast = z.output<typeof forecastSchema>;

/** Absent: too little was seen so far. */
export const poolForecastSchema = z.object({
  data: forecastSchema.optional(),
  metadata: forecastSchema.optional(),
});
export type PoolForecast = z.output<typeof poolForecastSchema>;
