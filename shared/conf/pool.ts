import { isAbsolute, normalize } from 'node:path';
import { z } from 'zod';
import { nameSchema } from '../util/names.ts';
import { permissionsSchema } from './permissions.ts';

/** A directory for the target of a pool: absolute, normalised as libvirt does, never the root. */
export const targetPathSchema = z
  .string()
  .max(4096)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  .refine((path) => isAbsolute(path) && !/[\u0000-\u001f]/.test(path), 'the target must be an absolute path')
  .transform((path) => normalize(path).replace(/(.)\/+$/, '$1'))
  .refine((path) => path !== '/', 'the target must not be the root directory');

/** What a pool is, as its owner defined it. */
export const poolDefinitionSchema = z.object({
  name: nameSchema,
  /** Any 128 bits, as libvirt allows. */
  uuid: z.guid(),
  /** A registered backend. */
  type: z.string().max(32),
  /** Permissions are given to the directory when the pool is built. */
  target: z.object({ path: targetPathSchema, permissions: permissionsSchema.optional() }),
  autostart: z.boolean().default(true),
});
export type PoolDefinition = z.infer<typeof poolDefinitionSchema>;

/** libvirt's pool states, as far as a pool of ours can be in them. */
export const poolStateSchema = z.enum(['inactive', 'building', 'running', 'inaccessible']);

/** A pool as its host sees it now. Sizes are bytes of the file system under it. */
export const poolSchema = poolDefinitionSchema.extend({
  state: poolStateSchema,
  /** Why the pool is inaccessible. */
  reason: z.string().optional(),
  capacityBytes: z.number(),
  allocationBytes: z.number(),
  availableBytes: z.number(),
});
export type Pool = z.infer<typeof poolSchema>;
