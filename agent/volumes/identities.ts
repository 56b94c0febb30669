import { z } from 'zod';
import { volumeAttributesSchema, volumeFormatSchema } from '../../shared/conf/volume.ts';
import type { Identity } from '../backends/backend.ts';
import { RecordLog } from '../host/record-log.ts';

const stateSchema = z.object({
  fingerprint: z.string(),
  format: volumeFormatSchema.optional(),
  transfer: z.string().optional(),
  secret: z.string().optional(),
  parentId: z.uuid().optional(),
});

const identitySchema = stateSchema.extend({
  id: z.uuid(),
  isBase: z.boolean().optional(),
  baseId: z.uuid().optional(),
  ...volumeAttributesSchema.shape,
  // Records of before kept the fingerprint alone.
  formerly: z.union([z.string().transform((fingerprint) => ({ fingerprint })), stateSchema]).optional(),
}) satisfies z.ZodType<Identity>;

/** The record of which volume has which id, in a file. Throws as {@link RecordLog.open} does. */
export function openIdentities(path: string): Promise<RecordLog<Identity>> {
  return RecordLog.open<Identity>(path, identitySchema);
}
