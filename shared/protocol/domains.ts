import { z } from 'zod';
import { nameSchema } from '../util/names.ts';

/** Who keeps a domain's configuration. Only ours can be changed by us. */
const domainOriginSchema = z.enum(['stowage', 'libvirt', 'proxmox', 'openvz']);

/** An image that a configuration of a domain names: a path on its host, or a volume of a pool. */
export const usedImageSchema = z.object({
  /** What the guest calls it, such as `vda`. */
  target: z.string(),
  role: z.enum(['disk', 'backing', 'mirror']),
  path: z.string().optional(),
  pool: z.string().optional(),
  volume: z.string().optional(),
});
export type UsedImage = z.infer<typeof usedImageSchema>;

/** A user of volumes on a host: a virtual machine or a container. */
export const domainSchema = z.object({
  name: z.string(),
  uuid: z.string().optional(),
  origin: domainOriginSchema,
  state: z.enum(['running', 'shut off', 'unknown']),
  /** Whether it is there after it was stopped. */
  persistent: z.boolean(),
  images: z.array(usedImageSchema),
  /** Why its configuration could not be read: what it uses is not known. */
  unreadable: z.string().optional(),
});
export type Domain = z.infer<typeof domainSchema>;

/** How a domain uses a volume. */
export const volumeUserSchema = z.object({
  domain: z.string(),
  origin: domainOriginSchema,
  state: domainSchema.shape.state,
  target: z.string(),
  role: usedImageSchema.shape.role,
  /** Volumes between the image that the domain names and this one, `pool/volume`, the named one first. */
  through: z.array(z.string()),
});
export type VolumeUser = z.infer<typeof volumeUserSchema>;

export const domainParams = z.object({ domain: nameSchema });

/** The forms of a domain that a change is for, as virsh's options of the same names. */
export const affectSchema = z.object({
  live: z.boolean().default(false),
  config: z.boolean().default(false),
  current: z.boolean().default(false),
  persistent: z.boolean().default(false),
});
export type Affect = z.infer<typeof affectSchema>;

export const DEVICE_CHANGES = ['attach-device', 'detach-device', 'update-device'] as const;
export type DeviceChange = (typeof DEVICE_CHANGES)[number];

/** The document must have been let through by whoever may do this: it is only read here. */
export const defineDomainSchema = z.object({ xml: z.string() });
export const changeDeviceSchema = affectSchema.extend({ xml: z.string() });
