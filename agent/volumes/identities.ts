import { z } from 'zod';
import { volumeFormatSchema } from '../../shared/conf/volume.ts';
import type { Identity } from '../backends/backend.ts';
import { RecordLog } from '../host/record-log.ts';

const identitySchema = z.object({
  id: z.uuid(),
  fingerprint: z.string(),
  formerly: z.string().optional(),
  format: volumeFormatSchema.optional(),
  transfer: z.string().optional(),
}) satisfies z.ZodType<Identity>;

/** The record of which volume has which id, in a file. Throws as {@link RecordLog.open} does. */
export function openIdentities(path: string): Promise<RecordLog<Identity>> {
  return RecordLog.open<Identity>(path, identitySchema);
}
