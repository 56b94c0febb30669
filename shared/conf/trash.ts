import { z } from 'zod';
import { volumeSchema } from './volume.ts';

/** Names what is in a trash; never used again. */
export const trashIdSchema = z
  .string()
  .regex(/^[0-9a-f]{12}$/, 'the id of something in a trash has 12 digits');

/** As far as a date can be. */
const timeSchema = z.number().min(0).max(8.64e15);

/** How far the bytes of something are overwritten; without a total nothing has begun. */
export const wipedSchema = z.object({
  doneBytes: z.number().int().nonnegative(),
  totalBytes: z.number().int().nonnegative().optional(),
  /** As fast as it shall be done at most. */
  limitBytesPerSecond: z.number().positive().optional(),
});
export type Wiped = z.output<typeof wipedSchema>;
export type WipedPart = Required<Pick<Wiped, 'doneBytes' | 'totalBytes'>>;

/** A volume in the trash of its pool. Times are ms since the epoch. */
export const trashedVolumeSchema = z.object({
  id: trashIdSchema,
  /** As it was. */
  volume: volumeSchema,
  trashedAt: timeSchema,
  /** After this time it may be deleted by whoever cleans up. */
  keepUntil: timeSchema,
  /** Who asked for it. */
  by: z.string().max(256).optional(),
  /** What it held is overwritten before it goes, and it does not come back. Absent: it is deleted as it is. */
  wiped: wipedSchema.optional(),
});
export type TrashedVolume = z.output<typeof trashedVolumeSchema>;
