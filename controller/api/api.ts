import type { FastifyBaseLogger } from 'fastify';
import type { Parts } from '../controller.ts';
import { guardAccess } from './access.ts';
import { auditRoutes } from './audit-routes.ts';
import { dataRoutes } from './data-routes.ts';
import { domainRoutes } from './domain-routes.ts';
import { serveEvents } from './events.ts';
import { hostRoutes } from './host-routes.ts';
import { type ApiHttp, createApiHttp } from './http.ts';
import { jobRoutes } from './job-routes.ts';
import { poolRoutes } from './pool-routes.ts';
import { tokenRoutes } from './token-routes.ts';
import { volumeRoutes } from './volume-routes.ts';

/** The REST API under `/api/v1`, its OpenAPI document, the event stream, and the door for agents that dial in. */
export async function createApi(parts: Parts, logger: FastifyBaseLogger): Promise<ApiHttp> {
  const http = await createApiHttp(logger);
  guardAccess(http, parts.tokens, parts.audit);
  for (const routes of [
    hostRoutes,
    poolRoutes,
    volumeRoutes,
    dataRoutes,
    domainRoutes,
    jobRoutes,
    auditRoutes,
    tokenRoutes,
  ])
    routes(http, parts);
  http.get('/api/v1/openapi.json', { config: { role: 'public' }, schema: { hide: true } }, () =>
    http.swagger(),
  );
  http.get('/api/v1/health', { config: { role: 'public' } }, () => ({ status: 'ok' }));
  serveEvents(http, parts);
  await http.ready();
  return http;
}
