import type { Duplex } from 'node:stream';
import { z } from 'zod';

/** The road to one agent. It does one thing: a fresh byte stream to the agent's HTTP server, as often as asked. */
export interface Link {
  /** Throws `host-unreachable` when the link is down. */
  open(): Promise<Duplex>;
  /** Settles, with the reason, when the link is down for good; a new one must be made then. */
  readonly down: Promise<string>;
  close(): void;
}

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
