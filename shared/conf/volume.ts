import { z } from 'zod';
import { nameSchema } from '../util/names.ts';
import { QCOW2_FEATURES } from './image-formats.ts';
import { permissionsSchema } from './permissions.ts';

export const volumeFormatSchema = z.enum(['raw', 'qcow2', 'ploop']);
export type VolumeFormat = z.infer<typeof volumeFormatSchema>;

/** `image`: the stored container, byte for byte. `content`: what the guest sees, whatever the container. */
export const representationSchema = z.enum(['image', 'content']);
export type Representation = z.infer<typeof representationSchema>;

export const capacitySchema = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);

/** What a new volume shall be. */
export const newVolumeSchema = z.object({
  name: nameSchema,
  capacityBytes: capacitySchema,
  format: volumeFormatSchema.default('raw'),
  /** raw: reserve all blocks; ploop: give each cluster its place; qcow2: write the metadata. */
  preallocate: z.boolean().default(false),
  /** Of its file; what is absent is the agent's own, for its owner only. */
  permissions: permissionsSchema.optional(),
  qcow2: z
    .object({
      compat: z.enum(['0.10', '1.1']).optional(),
      clusterBytes: z.number().int().optional(),
      features: z.array(z.enum(QCOW2_FEATURES)).default([]),
    })
    .optional(),
  ploop: z
    .object({
      version: z.union([z.literal(1), z.literal(2)]).optional(),
      layout: z.enum(['expanded', 'preallocated', 'raw']).optional(),
      clusterBytes: z.number().int().optional(),
    })
    .optional(),
});
export type NewVolume = z.infer<typeof newVolumeSchema>;

export const snapshotSchema = z.object({
  id: z.string(),
  parentId: z.string().optional(),
  current: z.boolean(),
  allocationBytes: z.number(),
});
export type Snapshot = z.infer<typeof snapshotSchema>;

/** A volume as its host sees it now. */
export const volumeSchema = z.object({
  /** Random, never used again, kept through renames and migrations. */
  id: z.uuid(),
  name: z.string(),
  /** libvirt's volume types. */
  type: z.enum(['file', 'ploop']),
  format: volumeFormatSchema,
  /** Where it is on its host; also its key, as in libvirt. */
  path: z.string(),
  capacityBytes: z.number(),
  allocationBytes: z.number(),
  /** What a qcow2 volume stands on, as its header says; never followed by us. */
  backingStore: z.string().optional(),
  snapshotCount: z.number(),
  /** Changes whenever the stored bytes may have changed. */
  etag: z.string(),
  /** Why it cannot be used. */
  damaged: z.string().optional(),
});
export type Volume = z.infer<typeof volumeSchema>;
