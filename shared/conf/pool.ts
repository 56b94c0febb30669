import { isAbsolute, normalize } from 'node:path';
import { z } from 'zod';
import { nameSchema } from '../util/names.ts';
import { permissionsSchema } from './permissions.ts';
import { poolSourceSchema } from './pool-source.ts';
import { poolLimitsSchema, poolUsageFields } from './pool-usage.ts';

/** A directory for the target of a pool: absolute, normalised as libvirt does, never the root. */
export const targetPathSchema = z
  .string()
  .max(4096)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  .refine((path) => isAbsolute(path) && !/[\u0000-\u001f]/.test(path), 'the target must be an absolute path')
  .transform((path) => normalize(path).replace(/(.)\/+$/, '$1'))
  .refine((path) => path !== '/', 'the target must not be the root directory');

/** An option for `mount -o`: no comma, which would make it two. */
const mountOptionSchema = z
  .string()
  .max(1024)
  .regex(/^[^,\s\0]+$/, 'a mount option is one word without commas');

/** What a pool is, as its owner defined it: all that libvirt's document says. Which of it a type can have, its backend says. */
export const poolDefinitionSchema = z.object({
  name: nameSchema,
  /** Any 128 bits, as libvirt allows. */
  uuid: z.guid(),
  /** A registered backend. */
  type: z.string().max(32),
  source: poolSourceSchema.default({ hosts: [], devices: [] }),
  /** Permissions are given to the directory when the pool is built. Pools reached over the network have no path. */
  target: z
    .object({ path: targetPathSchema.optional(), permissions: permissionsSchema.optional() })
    .default({}),
  cow: z.enum(['yes', 'no']).optional(),
  /** How the allocation of a volume is told after a refresh. */
  refreshAllocation: z.enum(['default', 'capacity']).optional(),
  /** `fs:mount_opts`: for `mount -o`. */
  mountOptions: z.array(mountOptionSchema).optional(),
  /** `rbd:config_opts`: for the cluster's client. */
  configOptions: z.array(z.object({ name: z.string().max(255), value: z.string().max(4096) })).optional(),
  /** Absent: the usual ones. */
  limits: poolLimitsSchema.optional(),
  autostart: z.boolean().default(true),
  /** Whose configuration on the host defines it: it is changed there, and not here. */
  managedBy: z.enum(['proxmox']).optional(),
  /** Of a pool that is managed so: other hosts of its manager use the same storage. */
  isShared: z.boolean().optional(),
  /** Of a pool that is managed so: what a volume held is overwritten before it goes. Absent: it goes as it is. */
  wipesDeleted: z.object({ limitBytesPerSecond: z.number().positive().optional() }).optional(),
  /** Of a pool that is managed so: what its manager keeps in it, such as `images` or `iso`; nothing else is made there. Absent: anything. */
  contents: z.array(z.string().max(40)).optional(),
});
export type PoolDefinition = z.output<typeof poolDefinitionSchema>;

/** libvirt's pool states, as far as a pool of ours can be in them. */
export const poolStateSchema = z.enum(['inactive', 'building', 'running', 'inaccessible']);

/** A pool as its host sees it now. Sizes are bytes of the storage under it. */
export const poolSchema = poolDefinitionSchema.extend({
  state: poolStateSchema,
  /** Why the pool is inaccessible. */
  reason: z.string().optional(),
  /** It goes on once it is given the secret that its source names: it has none, or what it has was refused. */
  awaitsSecret: z.enum(['missing', 'refused']).optional(),
  /** When the state began, ms since the epoch. */
  since: z.number().optional(),
  capacityBytes: z.number(),
  allocationBytes: z.number(),
  availableBytes: z.number(),
  /** The same for all pools, on whatever host, that are one storage; absent where that is not known. */
  storageId: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .optional(),
  ...poolUsageFields,
});
export type Pool = z.output<typeof poolSchema>;
