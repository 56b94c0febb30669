import type { FastifyBaseLogger } from 'fastify';
import { ACTIONS } from '../../actions/index.ts';
import type { Doors } from '../doors.ts';
import { serveEventSockets } from '../events/sockets.ts';
import { serveEventStream } from '../events/stream.ts';
import { servePage } from '../web/page.ts';
import { guardAccess } from './access.ts';
import { inputOf, performFor, send, wantsXml } from './call.ts';
import type { Certificate } from './certificate.ts';
import { serveData } from './data.ts';
import { type ApiHttp, createApiHttp } from './http.ts';
import { describeRoute } from './openapi.ts';
import { ROUTES } from './routes.ts';
import { serveSession } from './session.ts';
import { countTraffic } from './traffic.ts';

/** The REST API under `/api/v1`, its OpenAPI document, the events, and the door for agents that dial in. */
export async function createRestServer(
  doors: Doors,
  logger: FastifyBaseLogger,
  certificate: Certificate | undefined,
): Promise<ApiHttp> {
  const { services } = doors;
  const http = await createApiHttp(logger, doors.sourceOf, certificate);
  guardAccess(http, doors);
  for (const route of ROUTES) {
    const action = ACTIONS.get(route.action)!;
    const document = route.xml === undefined ? undefined : ACTIONS.get(route.xml);
    http.route({
      method: route.method,
      url: route.path,
      config: { action, isPublic: route.isPublic },
      schema: describeRoute(action, route),
      handler: async (request, reply) => {
        const asked = document && wantsXml(request) ? document : action;
        const output = await performFor(doors, request, reply, asked, inputOf(request, asked));
        return send(reply, asked, output, route.status);
      },
    });
  }
  serveData(http, doors);
  const config = { isPublic: true };
  http.get('/api/v1/openapi.json', { config, schema: { hide: true } }, () => http.swagger());
  http.addHook('onResponse', async ({ routeOptions }, reply) => {
    const { action } = routeOptions.config;
    if (action) services.metrics.answered(action.name, reply.statusCode, reply.elapsedTime / 1000);
  });
  countTraffic(http, doors.traffic);
  // It lives: for whoever restarts what does not.
  for (const url of ['/healthz', '/api/v1/health'])
    http.get(url, { config, schema: { hide: true } }, () => ({ status: 'ok' }));
  // It can work: for whoever sends it requests.
  http.get('/readyz', { config, schema: { hide: true } }, async (_request, reply) => {
    const { audit } = services;
    const reason = await audit.list(1).then(
      async () => ((await audit.standstill()) === undefined ? undefined : 'the store cannot be written'),
      () => 'the store cannot be read',
    );
    return reply.code(reason === undefined ? 200 : 503).send({ status: reason ?? 'ok' });
  });
  serveSession(http, doors);
  servePage(http);
  serveEventStream(http, doors);
  serveEventSockets(http, doors);
  await http.ready();
  return http;
}
