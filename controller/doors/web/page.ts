import type { FastifyReply, FastifyRequest } from 'fastify';
import { clock } from '../../../shared/util/clock.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { ApiHttp } from '../rest/http.ts';
import { bundlePage, type PageBundle } from './bundle.ts';

/** Nothing but what this controller serves is loaded, run or asked, and nobody shows the page in a frame. */
const policyOf = (nonce: string): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    // React Aria makes one style element, which shows the nonce.
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self' data:",
    "connect-src 'self'",
    "manifest-src 'self'",
    "form-action 'none'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    'trusted-types react-aria',
  ].join('; ');

const documentOf = ({ script, style }: PageBundle, nonce: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta property="csp-nonce" content="${nonce}">
<title>Stowage</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cg fill='%232563eb'%3E%3Crect x='1' y='2' width='14' height='3' rx='1'/%3E%3Crect x='1' y='6.5' width='14' height='3' rx='1'/%3E%3Crect x='1' y='11' width='14' height='3' rx='1'/%3E%3C/g%3E%3C/svg%3E">
<link rel="stylesheet" href="/assets/${style}">
<script type="module" src="/assets/${script}"></script>
</head>
<body><div id="root"></div><noscript>Stowage's page needs JavaScript; the command is: stowage --help</noscript></body>
</html>
`;

/** The operators' page, at every path that is not the API's: it finds out by itself what to show. */
export function servePage(http: ApiHttp): void {
  const options = { config: { isPublic: true }, schema: { hide: true } };
  let bundled: Promise<PageBundle> | undefined;
  const bundle = (): Promise<PageBundle> => {
    // One that failed is tried again.
    bundled ??= bundlePage().catch((error) => {
      bundled = undefined;
      throw error;
    });
    return bundled;
  };
  // The first who comes does not wait for it.
  http.addHook('onListen', async () => void bundle().catch((error) => http.log.error(error)));

  http.get('/assets/:name', options, async (request, reply) => {
    const { assets } = await bundle();
    const asset = assets.get((request.params as { name: string }).name);
    if (!asset) throw new StowageError('route-not-found', 'there is no such file: load the page again');
    const takesBrotli = /\bbr\b/.test(request.headers['accept-encoding'] ?? '');
    if (takesBrotli) void reply.header('content-encoding', 'br');
    return reply
      .headers({ 'cache-control': 'public, max-age=31536000, immutable', vary: 'accept-encoding' })
      .type(asset.type)
      .send(takesBrotli ? asset.brotli : asset.bytes);
  });

  const show = async (_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    const nonce = clock.randomBytes(16).toString('base64');
    return reply
      .headers({
        'content-security-policy': policyOf(nonce),
        'cache-control': 'no-store',
        'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
      })
      .type('text/html; charset=utf-8')
      .send(documentOf(await bundle(), nonce));
  };
  // What is no page the page itself says, with a way home.
  for (const path of ['/', '/*'])
    http.get(path, options, async (request, reply) => {
      if (request.url.startsWith('/api/'))
        throw new StowageError('route-not-found', `${request.url.split('?')[0]} is not part of the API`);
      return show(request, reply);
    });
}
