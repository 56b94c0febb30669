import type { IncomingMessage } from 'node:http';
import { fastifyCookie } from '@fastify/cookie';
import { StowageError } from '../../shared/util/errors.ts';
import type { Credentials } from '../auth/gate.ts';

/**
 * What a browser keeps of its session. By its prefix browsers take it over TLS (or from their own machine) only, for this host alone;
 * scripts cannot read it.
 */
export const SESSION_COOKIE = '__Host-stowage';

export const COOKIE_OPTIONS = { path: '/', secure: true, httpOnly: true, sameSite: 'strict' } as const;

export function credentialsOf({ headers: { authorization, cookie } }: IncomingMessage): Credentials {
  return { authorization, session: cookie && fastifyCookie.parse(cookie)[SESSION_COOKIE] };
}

/** Methods that change nothing. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Throws `cross-site` for a change that another site has a browser ask for. Browsers say where a request comes from: `Sec-Fetch-Site`, or
 * `Origin` where they are old.
 */
export function refuseCrossSite({ method = '', headers }: IncomingMessage): void {
  if (SAFE.has(method)) return;
  const { 'sec-fetch-site': site, origin, host } = headers;
  const isOwn =
    site === undefined ? origin !== undefined && URL.parse(origin)?.host === host : site === 'same-origin';
  if (!isOwn)
    throw new StowageError(
      'cross-site',
      'a change with a session comes only from the page of this controller',
    );
}
