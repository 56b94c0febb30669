import { z } from 'zod';

/** Of a pool's directory or a volume's file: mode bits, owner and group as numbers. What is absent is left as it is. */
export const permissionsSchema = z.object({
  mode: z.number().int().min(0).max(0o777).optional(),
  owner: z.number().int().min(0).max(0xffff_fffe).optional(),
  group: z.number().int().min(0).max(0xffff_fffe).optional(),
  /** Of a security model such as SELinux. */
  label: z.string().max(4096).optional(),
});
export type Permissions = z.infer<typeof permissionsSchema>;
