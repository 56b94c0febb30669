import type { FastifyReply, FastifyRequest } from 'fastify';
import { cut, StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { AuditTrail } from '../audit/trail.ts';
import { FailedAttempts, MOST_FAILURES } from '../auth/failed-attempts.ts';
import { type Actor, allows, type Tokens } from '../auth/tokens.ts';
import type { Role } from '../store/schema.ts';
import type { ApiHttp } from './http.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Lowest role that may call the route; `public` needs no token. */
    role?: Role | 'public';
    /** `noun.verb`: the call changes or reads out data, and is on record before it does anything. */
    audit?: string;
  }
  interface FastifyRequest {
    actor: Actor;
    /** Where it comes from, as long as it is known: of a closed socket it is not. */
    source: string;
    /** What the handler adds to the record of the outcome; also names a target that only the body tells. */
    note: { target?: string; detail?: string };
    failure: StowageError | undefined;
  }
}

const NOBODY: Actor = { name: 'nobody', role: 'viewer' };

/** What the URL says the call is about: `host/pool/volume`, as much as there is. */
function targetOf(request: FastifyRequest): string {
  const params = (request.params ?? {}) as Record<string, string | undefined>;
  const parts = [params.host, params.pool, params.domain, params.volume].filter((part) => part !== undefined);
  if (params.job) parts.push(`job ${params.job}`);
  if (params.token) parts.push(`token ${params.token}`);
  return parts.join('/').slice(0, 800);
}

/**
 * Who may call what, and the record of it: authenticated, authorised and on record before a byte of the body is parsed.
 * When the record cannot be written, the call is refused.
 */
export function guardAccess(http: ApiHttp, tokens: Tokens, audit: AuditTrail): void {
  http.decorateRequest('actor');
  http.decorateRequest('source', '');
  http.decorateRequest('note');
  http.decorateRequest('failure', undefined);

  const record = (
    request: FastifyRequest,
    outcome: 'begun' | 'done' | 'failed' | 'refused',
    detail?: string,
  ): Promise<number> =>
    audit.append({
      actor: request.actor.name,
      source: request.source,
      action:
        request.routeOptions.config.audit ??
        `${request.method} ${request.routeOptions.url ?? request.url.split('?')[0]}`,
      target: request.note.target ?? targetOf(request),
      outcome,
      detail,
    });

  /** Called when the answer is out or its client gone: Fastify's own hook does not tell of the latter. */
  const recordOutcome = async (request: FastifyRequest, finished: boolean): Promise<void> => {
    const { failure, note } = request;
    const detail = failure
      ? `${cut(failure.message, 1000)} [${failure.code}]`
      : finished
        ? note.detail
        : 'the client or the host went away';
    // The change was made under the first record; that this one is missing shows in the trail.
    await record(request, failure || !finished ? 'failed' : 'done', detail).catch((error) =>
      request.log.error(error, 'the outcome could not be recorded'),
    );
  };

  const attempts = new FailedAttempts();
  /** Puts a refusal on record; of many that come from one place in a minute only that they came. Throws `rate-limited`. */
  const recordRefusal = async (request: FastifyRequest, { code, message }: StowageError): Promise<void> => {
    if (code !== 'unauthenticated') return void (await record(request, 'refused', message));
    const { count, tooMany } = attempts.note(request.source);
    if (!tooMany) await record(request, 'refused', message);
    else if (count === MOST_FAILURES + 1)
      await record(
        request,
        'refused',
        `${message}; what else comes from there in this minute is not recorded`,
      );
    if (tooMany)
      throw new StowageError(
        'rate-limited',
        'too many requests without a valid token; try again in a minute',
      );
  };

  /** Whoever is being answered: what a token began ends with it. */
  const active = new Set<{ request: FastifyRequest; reply: FastifyReply }>();
  tokens.on('revoked', (name) => {
    for (const { request, reply } of active)
      if (request.actor.name === name && reply.raw.headersSent) reply.raw.destroy();
  });

  http.addHook('onRequest', async (request, reply) => {
    request.actor = NOBODY;
    request.source = request.ip;
    request.note = {};
    const { role = 'admin', audit: action } = request.routeOptions.config;
    if (role === 'public' || request.is404) return;
    try {
      request.actor = await tokens.authenticate(request.headers.authorization);
      if (!allows(request.actor.role, role)) {
        throw new StowageError(
          'forbidden',
          `the token '${request.actor.name}' has the role ${request.actor.role}; this needs ${role}`,
        );
      }
    } catch (error) {
      await recordRefusal(request, toStowageError(error));
      throw error;
    }
    const answering = { request, reply };
    active.add(answering);
    reply.raw.once('close', () => active.delete(answering));
    if (action) {
      await record(request, 'begun');
      reply.raw.once('close', () => void recordOutcome(request, reply.raw.writableFinished));
    }
  });
}
