import { z } from 'zod';
import { volumeSchema } from './volume.ts';

/** Names what is in a trash; never used again. */
export const trashIdSchema = z
  .string()
  .regex(/^[0-9a-f]{12}$/, 'the id of something in a trash has 12 digits');

/** As far as a date can be. */
const timeSchema = z.number().min(0).max(8.64e15);

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
});
export type TrashedVolume = z.output<typeof trashedVolumeSchema>;
