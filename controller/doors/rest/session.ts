import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { StowageError } from '../../../shared/util/errors.ts';
import { parseInput } from '../../../shared/util/input.ts';
import { nameSchema } from '../../../shared/util/names.ts';
import type { ClientAddress } from '../../auth/sessions.ts';
import { COOKIE_OPTIONS, credentialsOf, refuseCrossSite, SESSION_COOKIE } from '../credentials.ts';
import type { Doors } from '../doors.ts';
import type { ApiHttp } from './http.ts';

const PATH = '/api/v1/session';

const password = z.string().min(1).max(256);
const signInSchema = z.object({ name: nameSchema, password, code: z.string().max(20).optional() });
const acceptSchema = z.object({ token: z.string().max(100), name: nameSchema.optional(), password });

/** Signing in and out: what a browser keeps of its session is set and taken back here, and never shown to a script. */
export function serveSession(http: ApiHttp, { gate, signIn, services }: Doors): void {
  const { sessions, users } = services;
  const schema = { hide: true };
  const config = { isPublic: true };
  const clientOf = ({ source, headers }: FastifyRequest): ClientAddress => ({
    source,
    client: headers['user-agent'] ?? '',
  });
  const keep = (reply: FastifyReply, secret: string): FastifyReply =>
    reply.setCookie(SESSION_COOKIE, secret, COOKIE_OPTIONS).code(204).send();
  const route = { config, schema, preHandler: async ({ raw }: FastifyRequest) => refuseCrossSite(raw) };

  /** Whether somebody is signed in, and how they could. */
  http.get(PATH, { config, schema }, async (request, reply) => {
    const credentials = credentialsOf(request.raw);
    const principal = await gate.identify(credentials).catch((error: StowageError) => {
      if (error.code !== 'unauthenticated') throw error;
      return undefined;
    });
    void reply.header('cache-control', 'no-store');
    return { isSignedIn: principal !== undefined, isNew: await users.isEmpty() };
  });

  http.post(PATH, route, async (request, reply) =>
    keep(reply, await signIn.withPassword(parseInput(signInSchema, request.body), clientOf(request))),
  );

  http.delete(PATH, route, async (request, reply) => {
    const { session } = credentialsOf(request.raw);
    if (session !== undefined) {
      const principal = await gate.identify({ session }).catch(() => undefined);
      if (principal?.user !== undefined) await sessions.end(principal.user, principal.id);
    }
    return reply.clearCookie(SESSION_COOKIE, COOKIE_OPTIONS).code(204).send();
  });

  /** Whom an invitation is for. */
  http.post('/api/v1/invitation', route, async (request) => {
    const { token } = parseInput(acceptSchema.pick({ token: true }), request.body);
    return users.invited(token);
  });

  http.post('/api/v1/invitation/accept', route, async (request, reply) =>
    keep(reply, await signIn.withInvitation(parseInput(acceptSchema, request.body), clientOf(request))),
  );
}
