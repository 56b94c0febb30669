import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { XML_TYPE } from '../../../shared/conf/xml/write.ts';
import type { Action, ByteStream, Call } from '../../actions/action.ts';
import { perform } from '../../actions/perform.ts';
import type { Principal } from '../../auth/principal.ts';
import { inTraceOf } from '../../traces/span.ts';
import type { Doors } from '../doors.ts';
import { fromUrl } from './query.ts';

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal;
    /** Where it comes from, as long as it is known: of a closed socket it is not. */
    source: string;
  }
}

/** What a request says, as input of an action: its body over its query, its path over both. */
export function inputOf(request: FastifyRequest, action: Action): Record<string, unknown> {
  const { body } = request;
  const isObject = typeof body === 'object' && body !== null && !(body instanceof Readable);
  return {
    ...fromUrl(action.input, request.query as Record<string, unknown>),
    ...(isObject && body),
    ...(typeof body === 'string' && { xml: body }),
    ...fromUrl(action.input, request.params as Record<string, unknown>),
  };
}

/** Under which a browser reaches us. */
export const originOf = ({ protocol, host }: FastifyRequest, publicUrl: string | undefined): string =>
  publicUrl === undefined ? `${protocol}://${host}` : new URL(publicUrl).origin;

/** Does an action for a request. */
export function performFor(
  { services, publicUrl, isSelfSigned }: Doors,
  request: FastifyRequest,
  reply: FastifyReply,
  action: Action,
  input: Record<string, unknown>,
): Promise<unknown> {
  const origin = originOf(request, publicUrl);
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  const call: Omit<Call, 'note'> = {
    principal: request.principal,
    source: request.source,
    origin,
    isSelfSigned: isSelfSigned && origin.startsWith('https:'),
    signal: gone.signal,
    body: request.body instanceof Readable ? request.body : undefined,
  };
  return inTraceOf(request.headers, () => perform(services, action, input, call));
}

/** Whether the caller asks for libvirt's document rather than for JSON. */
export function wantsXml(request: FastifyRequest): boolean {
  return request.headers.accept?.split(/[,;]/)[0]?.trim() === XML_TYPE;
}

/** Sends what an action has answered. */
export function send(reply: FastifyReply, { answer }: Action, output: unknown, status = 200): FastifyReply {
  switch (answer) {
    case 'nothing':
      return reply.code(204).send();
    case 'xml':
      return reply.type(XML_TYPE).send(output);
    case 'bytes':
      return sendBytes(reply, output as ByteStream);
    default:
      return reply.code(status).send(output);
  }
}

export function sendBytes(
  reply: FastifyReply,
  { body, contentType, status, headers }: ByteStream,
): FastifyReply {
  // A cut on the other side must cut the client too: a short answer that looks whole is worse than none.
  body.once('error', () => reply.raw.destroy());
  return reply
    .code(status ?? 200)
    .headers(headers ?? {})
    .type(contentType)
    .send(body);
}
