import { z } from 'zod';

/** Where an agent dials: the control socket, and one more WebSocket for each stream it is asked for. */
export const LINK_PATH = '/api/v1/agents/link';
export const STREAM_PATH = '/api/v1/agents/streams';

const keySchema = z.string().max(512);
const signatureSchema = z.string().max(256);

/**
 * The control socket's messages. Agent: `hello`; controller: `challenge`, with which it proves who it is; agent: `proof`,
 * sent only to the controller that it was enrolled at; controller: `welcome` or `refused`. Then the controller sends `open`
 * for each stream it wants; the id is good for one stream.
 */
export const linkMessageSchema = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('hello'),
    version: z.literal(2),
    /** A key for this link alone: X25519, SPKI in DER, base64. */
    linkKey: keySchema,
    /** Whether what goes over the streams is to be encrypted here: nothing below does it. */
    sealed: z.boolean(),
  }),
  z.object({
    type: z.literal('challenge'),
    linkKey: keySchema,
    /** Ed25519, SPKI in PEM. */
    publicKey: keySchema,
    signature: signatureSchema,
  }),
  z.object({
    type: z.literal('proof'),
    agentId: z.uuid(),
    /** Ed25519, SPKI in PEM. */
    publicKey: keySchema,
    signature: signatureSchema,
    /** The secret of the one-time enrolment token, at the first contact only. */
    token: z.string().max(256).optional(),
  }),
  z.object({ type: z.literal('welcome'), host: z.string() }),
  z.object({ type: z.literal('refused'), reason: z.string() }),
  z.object({ type: z.literal('open'), stream: z.string().max(128) }),
]);
export type LinkMessage = z.infer<typeof linkMessageSchema>;

/** What whoever installs an agent carries to it: the secret, and which controller it is for. */
export interface EnrolmentToken {
  secret: string;
  /** Fingerprint of the controller's key; tokens of earlier versions have none. */
  controller?: string;
}

export const formatToken = ({ secret, controller }: EnrolmentToken): string =>
  controller === undefined ? secret : `${secret}.${controller}`;

export function parseToken(text: string): EnrolmentToken {
  const [secret = '', controller] = text.split('.');
  return { secret, controller };
}
