import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { clock } from '../../../shared/util/clock.ts';
import { isStowageError, StowageError, toStowageError } from '../../../shared/util/errors.ts';
import { parseInput } from '../../../shared/util/input.ts';
import { nameSchema } from '../../../shared/util/names.ts';
import { type OpenId, type OpenIdState, openIdStateSchema } from '../../auth/open-id.ts';
import { assertionSchema } from '../../auth/passkeys.ts';
import type { ClientAddress } from '../../auth/sessions.ts';
import type { Sealing } from '../../secrets/sealing.ts';
import { COOKIE_OPTIONS, credentialsOf, refuseCrossSite, SESSION_COOKIE } from '../credentials.ts';
import type { Doors } from '../doors.ts';
import { originOf } from './call.ts';
import type { ApiHttp } from './http.ts';

const PATH = '/api/v1/session';
/** What people type is short, and sent at once. */
const MOST_BYTES = 8192;
const BODY_MS = 10_000;
/** What a browser keeps while it is at the OpenID provider, from where it comes back by a link. */
const STATE_COOKIE = '__Host-stowage-open-id';
const STATE_OPTIONS = { ...COOKIE_OPTIONS, sameSite: 'lax', maxAge: 600 } as const;
const STATE_LABEL = 'open-id';

const password = z.string().min(1).max(256);
const signInSchema = z.object({ name: nameSchema, password, code: z.string().max(40).optional() });
const passkeySchema = z.object({ state: z.string().max(1024), response: assertionSchema });
const acceptSchema = z.object({ token: z.string().max(100), name: nameSchema.optional(), password });

const clientOf = ({ source, headers }: FastifyRequest): ClientAddress => ({
  source,
  client: headers['user-agent'] ?? '',
});

/** Signing in and out: what a browser keeps of its session is set and taken back here, and never shown to a script. */
export function serveSession(http: ApiHttp, doors: Doors): void {
  const { gate, signIn, services, openId, publicUrl } = doors;
  const { users } = services;
  const schema = { hide: true };
  const config = { isPublic: true };
  const keep = (reply: FastifyReply, secret: string): FastifyReply =>
    reply.setCookie(SESSION_COOKIE, secret, COOKIE_OPTIONS).code(204).send();
  const route = {
    ...{ config, schema, bodyLimit: MOST_BYTES },
    /** Whoever begins and does not end is gone: nobody has shown yet who they are. */
    onRequest: async ({ raw }: FastifyRequest, reply: FastifyReply) => {
      refuseCrossSite(raw);
      const timer = clock.after(BODY_MS, () => void (raw.complete || raw.destroy()), false);
      reply.raw.once('close', () => timer.stop());
    },
  };

  /** Whether somebody is signed in, and how they could. */
  http.get(PATH, { config, schema }, async (request, reply) => {
    const credentials = credentialsOf(request.raw);
    const principal = await gate.identify(credentials).catch((error: unknown) => {
      if (!isStowageError(error, 'unauthenticated')) throw error;
      return undefined;
    });
    void reply.header('cache-control', 'no-store');
    return {
      isSignedIn: principal !== undefined,
      isNew: await users.isEmpty(),
      hasProvider: openId !== undefined,
    };
  });

  http.post(PATH, route, async (request, reply) =>
    keep(reply, await signIn.withPassword(parseInput(signInSchema, request.body), clientOf(request))),
  );

  http.post(`${PATH}/passkey/ask`, route, (request) =>
    signIn.askForPasskey(originOf(request, publicUrl), clientOf(request)),
  );

  http.post(`${PATH}/passkey`, route, async (request, reply) => {
    const given = parseInput(passkeySchema, request.body);
    return keep(reply, await signIn.withPasskey(given, originOf(request, publicUrl), clientOf(request)));
  });

  http.delete(PATH, route, async (request, reply) => {
    const { session } = credentialsOf(request.raw);
    if (session !== undefined) await signIn.out(session, clientOf(request));
    return reply.clearCookie(SESSION_COOKIE, COOKIE_OPTIONS).code(204).send();
  });

  if (openId) serveOpenId(http, doors, openId);

  /** Whom an invitation is for. */
  http.post('/api/v1/invitation', route, async (request) => {
    const { token } = parseInput(acceptSchema.pick({ token: true }), request.body);
    return users.invited(token);
  });

  http.post('/api/v1/invitation/accept', route, async (request, reply) =>
    keep(reply, await signIn.withInvitation(parseInput(acceptSchema, request.body), clientOf(request))),
  );
}

/** What was kept at the beginning. Throws `sign-in-refused` for what was not made here, and for nothing. */
function stateOf(sealing: Sealing, sealed: string): OpenIdState {
  try {
    return openIdStateSchema.parse(JSON.parse(sealing.open(sealed, STATE_LABEL)));
  } catch {
    throw new StowageError(
      'sign-in-refused',
      'this way in was not begun in this browser, or more than ten minutes ago',
    );
  }
}

/** The two halves of signing in by an OpenID provider: there, and back. */
function serveOpenId(http: ApiHttp, { signIn, sealing, publicUrl }: Doors, openId: OpenId): void {
  const options = { config: { isPublic: true }, schema: { hide: true } };
  const back = (request: FastifyRequest): string =>
    `${publicUrl ?? `${request.protocol}://${request.host}`}${PATH}/open-id/back`;

  /** A page that says why, and no document of an error; nothing of the URL is shown. */
  const refused = (reply: FastifyReply, error: unknown) =>
    reply.redirect(`/?refused=${toStowageError(error).code}`);

  http.get(`${PATH}/open-id`, options, async (request, reply) => {
    try {
      const { url, kept } = await openId.begin(back(request));
      const sealed = sealing.seal(JSON.stringify(kept), STATE_LABEL);
      return reply.setCookie(STATE_COOKIE, sealed, STATE_OPTIONS).redirect(url.href);
    } catch (error) {
      request.log.warn({ reason: toStowageError(error).message }, 'nobody can sign in by OpenID');
      return refused(reply, error);
    }
  });

  http.get(`${PATH}/open-id/back`, options, async (request, reply) => {
    const { [STATE_COOKIE]: sealed = '' } = request.cookies;
    void reply.clearCookie(STATE_COOKIE, STATE_OPTIONS);
    try {
      const current = new URL(request.url, back(request));
      const secret = await signIn.withProvider(async () => {
        return openId.finish(current, stateOf(sealing, sealed));
      }, clientOf(request));
      return reply.setCookie(SESSION_COOKIE, secret, COOKIE_OPTIONS).redirect('/');
    } catch (error) {
      return refused(reply, error);
    }
  });
}
