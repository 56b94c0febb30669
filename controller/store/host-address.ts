import { z } from 'zod';

/** How to reach the agent of a host. */
export const hostAddressSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('local'), socket: z.string() }),
  z.object({
    kind: z.literal('ssh'),
    user: z.string(),
    hostname: z.string(),
    port: z.number().int().min(1).max(65535),
    /** Private key files on the controller, tried first. Stores of earlier versions have one, as `identity`. */
    identities: z.array(z.string()).default([]),
    identity: z.string().optional(),
    /** Try nothing else; otherwise the SSH agent too, and without any the usual key files. */
    identitiesOnly: z.boolean().default(false),
    /** `SHA256:…`, as ssh-keygen prints it. */
    fingerprint: z.string(),
  }),
  z.object({
    kind: z.literal('websocket'),
    /** The agent's public key, PEM, once it has enrolled. */
    publicKey: z.string().optional(),
    agentId: z.string().optional(),
  }),
]);
export type HostAddress = z.infer<typeof hostAddressSchema>;
export type SshAddress = Extract<HostAddress, { kind: 'ssh' }>;
