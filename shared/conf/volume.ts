import { z } from 'zod';
import { nameSchema } from '../util/names.ts';
import { QCOW2_FEATURES, VOLUME_FORMATS } from './image-formats.ts';
import { permissionsSchema } from './permissions.ts';
import { WIPE_ALGORITHMS } from './wipe-algorithms.ts';

/** Formats of volumes that can be made. */
export const volumeFormatSchema = z.enum(VOLUME_FORMATS);
export type VolumeFormat = z.infer<typeof volumeFormatSchema>;

/** `image`: the stored container, byte for byte. `content`: what the guest sees, whatever the container. */
export const representationSchema = z.enum(['image', 'content']);
export type Representation = z.infer<typeof representationSchema>;

export const capacitySchema = z.number().int().positive().max(Number.MAX_SAFE_INTEGER);

/** With LUKS, and a passphrase that is the secret of this id; absent where nobody has said which. */
export const encryptionSchema = z.object({
  format: z.literal('luks'),
  secret: z.guid().optional(),
});
export type VolumeEncryption = z.infer<typeof encryptionSchema>;

/** What a new volume shall be. */
export const newVolumeSchema = z.object({
  name: nameSchema,
  capacityBytes: capacitySchema,
  format: volumeFormatSchema.default('raw'),
  /** raw: reserve all blocks; ploop: give each cluster its place; qcow2: write the metadata. */
  preallocate: z.boolean().default(false),
  /** Of luks, which always is, and of qcow2. */
  encryption: encryptionSchema.optional(),
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

/** A volume as a block device of its host. */
export const mappedVolumeSchema = z.object({
  /** Its node, such as `/dev/loop3`. */
  device: z.string(),
  /** It takes no write, as that of a base. */
  isReadOnly: z.boolean(),
});
/** The nodes that are gone. */
export const unmappedSchema = z.object({ devices: z.array(z.string().max(200)).max(1000) });

export type MappedVolume = z.infer<typeof mappedVolumeSchema>;

export const snapshotSchema = z.object({
  id: z.string(),
  parentId: z.string().optional(),
  current: z.boolean(),
  allocationBytes: z.number(),
  /** The same for a snapshot and for what a stream has made of it elsewhere; another one for each that is taken. Absent: the storage has none. */
  guid: z.string().optional(),
});
export type Snapshot = z.infer<typeof snapshotSchema>;

/** libvirt's volume types. */
export const VOLUME_TYPES = ['file', 'block', 'dir', 'network', 'netdir', 'ploop'] as const;

/** A time of a file as libvirt writes it: seconds since the epoch, with nanoseconds behind a dot unless they are 0. */
const timeSchema = z.string().regex(/^\d+(\.\d{9})?$/);

/** What people keep with a volume. */
export const volumeAttributesSchema = z.object({
  notes: z.string().max(8192).optional(),
  /** While it is so it is not deleted, wiped, replaced, moved away, made smaller, nor set back to a snapshot. */
  isProtected: z.boolean().optional(),
});
export type VolumeAttributes = z.infer<typeof volumeAttributesSchema>;

/** A volume as its host sees it now: all that libvirt's document says, and what Stowage keeps beside it. */
export const volumeSchema = z.object({
  /** Random, never used again, kept through renames and migrations. */
  id: z.uuid(),
  /** Any name that a file can have. */
  name: z.string().regex(/^[^/\0]{1,255}$/),
  type: z.enum(VOLUME_TYPES),
  /** `unknown` while its bytes could not be read; `damaged` says why. Nothing is done to it then. */
  format: z.enum([...volumeFormatSchema.options, 'unknown']),
  /** Where it is on its host: a path, or where a client of its storage finds it. Also its key, as in libvirt. */
  path: z.string().max(8192),
  capacityBytes: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  allocationBytes: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  permissions: permissionsSchema.optional(),
  timestamps: z
    .object({ atime: timeSchema, mtime: timeSchema, ctime: timeSchema, btime: timeSchema.optional() })
    .optional(),
  /** Of qcow2: what it stands on, as its header says; a path may be relative to that of the volume. */
  backingStore: z.object({ path: z.string(), format: z.string().optional() }).optional(),
  compat: z.enum(['0.10', '1.1']).optional(),
  clusterBytes: z.number().optional(),
  features: z.array(z.enum(QCOW2_FEATURES)).optional(),
  /** Of luks, and of qcow2 that is encrypted. */
  encryption: encryptionSchema.optional(),
  /** Its storage takes no write to it: linked clones may stand on it. */
  isBase: z.boolean().optional(),
  /** Of a base: random, another one whenever it is made a base anew, and may hold something else. Absent where somebody else made it one. */
  baseId: z.uuid().optional(),
  /** The id of the base that it was cloned from and stands on. */
  parentId: z.uuid().optional(),
  ...volumeAttributesSchema.shape,
  snapshotCount: z.number().int().nonnegative(),
  /** Changes whenever the stored bytes may have changed. */
  etag: z.string().max(200),
  /** Why it cannot be used. */
  damaged: z.string().optional(),
});
export type Volume = z.infer<typeof volumeSchema>;

export const wipeAlgorithmSchema = z.enum(WIPE_ALGORITHMS).default('zero');

/** One thing that a check of a volume found. */
export const findingSchema = z.object({
  problem: z.string(),
  detail: z.string(),
  /** The volume cannot be trusted while it is so. */
  fatal: z.boolean(),
  /** What a repair does about it, or did. */
  repair: z.string().optional(),
});
export type Finding = z.infer<typeof findingSchema>;
