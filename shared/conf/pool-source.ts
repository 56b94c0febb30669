import { z } from 'zod';

const YES_NO = z.enum(['yes', 'no']);

/** Which secret is meant; the secret itself is elsewhere. */
export const secretReferenceSchema = z.union([
  z.object({ uuid: z.guid() }),
  z.object({ usage: z.string().max(1024) }),
]);
export type SecretReference = z.infer<typeof secretReferenceSchema>;

/** Who logs in to a storage server. */
export const authSchema = z.object({
  type: z.enum(['chap', 'ceph']).optional(),
  username: z.string().max(1024),
  secret: secretReferenceSchema,
  /** What kind of secret it is: disks say it, pools do not. */
  secretType: z.string().max(64).optional(),
});
export type Auth = z.infer<typeof authSchema>;

/** The SCSI adapter behind a pool: one of the host, or a virtual one of a Fibre Channel host. */
export const adapterSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('scsi_host'),
    name: z.string().max(255).optional(),
    parent: z
      .object({
        uniqueId: z.number().int(),
        address: z
          .object({ domain: z.string(), bus: z.string(), slot: z.string(), function: z.string() })
          .optional(),
      })
      .optional(),
  }),
  z.object({
    type: z.literal('fc_host'),
    parent: z.string().optional(),
    parentWwnn: z.string().optional(),
    parentWwpn: z.string().optional(),
    parentFabricWwn: z.string().optional(),
    managed: YES_NO.optional(),
    wwnn: z.string(),
    wwpn: z.string(),
  }),
]);
export type Adapter = z.infer<typeof adapterSchema>;

const nothingHidden = z
  .string()
  .max(4096)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  .regex(/^(?!-)[^\u0000-\u001f]*$/, 'no control characters, no leading dash');

/** What a pool is made of: the parts that its type has, in libvirt's words. */
export const poolSourceSchema = z.object({
  hosts: z
    .array(z.object({ name: nothingHidden, port: z.number().int().min(0).max(65535).optional() }))
    .default([]),
  devices: z.array(z.object({ path: nothingHidden, partSeparator: YES_NO.optional() })).default([]),
  dir: nothingHidden.optional(),
  adapter: adapterSchema.optional(),
  name: nothingHidden.optional(),
  initiatorIqn: nothingHidden.optional(),
  auth: authSchema.optional(),
  format: z.string().max(32).optional(),
  vendor: z.string().max(255).optional(),
  product: z.string().max(255).optional(),
  protocolVersion: z
    .string()
    .max(32)
    .regex(/^[^,]*$/)
    .optional(),
});
export type PoolSource = z.output<typeof poolSourceSchema>;
