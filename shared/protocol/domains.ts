import { z } from 'zod';
import { nameSchema } from '../util/names.ts';

/** Who keeps a domain's configuration. Only ours can be changed by us. */
export const DOMAIN_ORIGINS = ['stowage', 'libvirt', 'proxmox', 'openvz'] as const;
const domainOriginSchema = z.enum(DOMAIN_ORIGINS);

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

/** Of one domain; far more than any has. */
export const MOST_IMAGES = 1000;

/** A user of volumes on a host: a virtual machine or a container. */
export const domainSchema = z.object({
  name: z.string().max(1024),
  uuid: z.string().min(1).max(64).optional(),
  origin: domainOriginSchema,
  state: z.enum(['running', 'shut off', 'unknown']),
  /** Whether it is there after it was stopped. */
  persistent: z.boolean(),
  images: z.array(usedImageSchema).max(MOST_IMAGES),
  /** Why its configuration could not be read: what it uses is not known. */
  unreadable: z.string().optional(),
});
export type Domain = z.infer<typeof domainSchema>;

/** What tells one domain of a host from another. A name alone does not: each driver of libvirt has names of its own. */
export const domainKeySchema = domainSchema.pick({ origin: true, name: true, uuid: true });
export type DomainKey = z.infer<typeof domainKeySchema>;

/** Where a domain is in the order of lists: by host, name, origin and UUID. */
export interface DomainPlace extends DomainKey {
  host: string;
}

/** What `formatDomainPlace` has written; undefined for anything else. */
export function parseDomainPlace(text: string): DomainPlace | undefined {
  try {
    const [host = '', name = '', origin, uuid = ''] = text.split('/').map(decodeURIComponent);
    if (text.includes('%00')) return undefined;
    return { host, ...domainKeySchema.parse({ name, origin, uuid: uuid || undefined }) };
  } catch {
    return undefined;
  }
}

/** How a domain uses a volume. */
export const volumeUserSchema = z.object({
  domain: z.string(),
  uuid: domainSchema.shape.uuid,
  origin: domainOriginSchema,
  state: domainSchema.shape.state,
  target: z.string(),
  role: usedImageSchema.shape.role,
  /** Volumes between the image that the domain names and this one, `pool/volume`, the named one first. */
  through: z.array(z.string()),
});
export type VolumeUser = z.infer<typeof volumeUserSchema>;

/** A volume that a domain uses. */
export const domainUseSchema = volumeUserSchema
  .pick({ target: true, role: true, through: true })
  .extend({ pool: nameSchema, volume: z.string().max(1024) });
export type DomainUse = z.infer<typeof domainUseSchema>;

/** A domain of a host, with the volumes of the host's pools that it uses. */
export const hostDomainSchema = domainSchema.extend({ uses: z.array(domainUseSchema).max(MOST_IMAGES) });
export type HostDomain = z.infer<typeof hostDomainSchema>;

export const domainParams = z.object({ domain: nameSchema });

/** The forms of a domain that a change is for, as virsh's options of the same names. */
export const affectSchema = z.object({
  live: z.boolean().default(false),
  config: z.boolean().default(false),
  current: z.boolean().default(false),
  persistent: z.boolean().default(false),
});
export type Affect = z.infer<typeof affectSchema>;

/** The document must have been let through by whoever may do this: it is only read here. */
export const defineDomainSchema = z.object({ xml: z.string() });
export const changeDeviceSchema = affectSchema.extend({ xml: z.string() });
