import type { FastifyReply, FastifyRequest } from 'fastify';
import { toStowageError } from '../../../shared/util/errors.ts';
import type { Action } from '../../actions/action.ts';
import { authorize, targetOf } from '../../actions/perform.ts';
import { CONTROLLER, type Principal } from '../../auth/principal.ts';
import { credentialsOf, refuseCrossSite } from '../credentials.ts';
import type { Doors } from '../doors.ts';
import type { ApiHttp } from './http.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route does. */
    action?: Action;
    /** It may be called without a token. */
    isPublic?: boolean;
  }
}

/** Whoever needs no token may do what is public, and nothing else. */
const ANYBODY: Principal = { ...CONTROLLER, id: 'nobody', name: 'nobody', role: 'viewer' };

/** Lets nobody in who may not do what the route is for, before a byte of the body is read. */
export function guardAccess(http: ApiHttp, { gate, revocations, services, sourceOf }: Doors): void {
  http.decorateRequest('principal');
  http.decorateRequest('source', '');

  http.addHook('onRoute', ({ url, config }) => {
    if (!config?.action && !config?.isPublic)
      throw new Error(`${url} neither does an action nor is it public`);
  });

  /** Whoever is being answered: what a token began ends with it. */
  const active = new Set<{ request: FastifyRequest; reply: FastifyReply }>();
  revocations.on('revoked', (id) => {
    // What is still being sent, in either direction, ends here; a change that is being made is made.
    for (const { request, reply } of active)
      if (request.principal.id === id && (reply.raw.headersSent || !request.raw.complete))
        reply.raw.destroy();
  });

  http.addHook('onRequest', async (request, reply) => {
    request.principal = ANYBODY;
    request.source = sourceOf(request.raw);
    const { action, isPublic } = request.routeOptions.config;
    if (request.is404 || isPublic || !action) return;
    const credentials = credentialsOf(request.raw);
    if (credentials.authorization === undefined && credentials.session !== undefined)
      refuseCrossSite(request.raw);
    request.principal = await gate.authenticate(credentials, request.source, action.name);
    const params = request.params as Record<string, string>;
    try {
      authorize(action, request.principal, params);
    } catch (error) {
      const { message, code } = toStowageError(error);
      await services.audit.append({
        actor: request.principal.name,
        source: request.source,
        action: action.name,
        target: targetOf(params),
        outcome: 'refused',
        detail: `${message} [${code}]`,
      });
      throw error;
    }
    const answering = { request, reply };
    active.add(answering);
    reply.raw.once('close', () => active.delete(answering));
  });
}
