import { z } from 'zod';

/** Where an agent dials: the control socket, and one more WebSocket for each stream it is asked for. */
export const LINK_PATH = '/api/v1/agents/link';
export const STREAM_PATH = '/api/v1/agents/streams';

/**
 * The control socket's messages. Agent: `hello`; controller: `challenge`; agent: `proof`; controller: `welcome` or
 * `refused`. Then the controller sends `open` for each stream it wants; the id is a secret good for one stream.
 */
export const linkMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    agentId: z.uuid(),
    /** Ed25519, SPKI in PEM. */
    publicKey: z.string().max(512),
    /** The one-time enrolment token, at the first contact only. */
    token: z.string().max(256).optional(),
  }),
  z.object({ type: z.literal('challenge'), nonce: z.string().max(128) }),
  z.object({ type: z.literal('proof'), signature: z.string().max(256) }),
  z.object({ type: z.literal('welcome'), host: z.string() }),
  z.object({ type: z.literal('refused'), reason: z.string() }),
  z.object({ type: z.literal('open'), stream: z.string().max(128) }),
]);
export type LinkMessage = z.infer<typeof linkMessageSchema>;

/** What the agent signs: bound to this purpose, so that the signature is good for nothing else. */
export function proofText(nonce: string): Buffer {
  return Buffer.from(`stowage-link-v1:${nonce}`);
}
