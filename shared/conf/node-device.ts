import { z } from 'zod';

export const nodeDeviceKindSchema = z.enum([
  'disk',
  'partition',
  'multipath',
  'volume',
  'loop',
  'scsi-adapter',
  'fc-adapter',
  'source',
]);
export type NodeDeviceKind = z.output<typeof nodeDeviceKindSchema>;

/** Something of a host that a pool could be made of, or is made of. */
export const nodeDeviceSchema = z.object({
  kind: nodeDeviceKindSchema,
  /** As it is named in the source of a pool: a path, the name of an adapter, of a volume group, of a zpool, an export. */
  name: z.string(),
  /** The whole disk that it is a part of, or the device that it lies on. */
  parent: z.string().optional(),
  sizeBytes: z.number().optional(),
  model: z.string().optional(),
  serial: z.string().optional(),
  /** World Wide Name of a disk; of an adapter its port. */
  wwn: z.string().optional(),
  /** How it is reached: `sata`, `nvme`, `iscsi`, `fc`. */
  transport: z.string().optional(),
  /** What is on it, in words; absent for an empty one. */
  holds: z.string().optional(),
  /** Types of pools that it can be the source of: of an empty disk what can be built on it, else what is there. */
  poolTypes: z.array(z.string()),
  /** A pool of this host that is made of it. */
  pool: z.string().optional(),
});
export type NodeDevice = z.output<typeof nodeDeviceSchema>;

/** What a host told, and what it could not tell. */
export const nodeDevicesSchema = z.object({
  devices: z.array(nodeDeviceSchema),
  /** Why a part of them is not told, in words. */
  problems: z.array(z.string()),
});
export type NodeDevices = z.output<typeof nodeDevicesSchema>;
