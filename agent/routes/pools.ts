import { z } from 'zod';
import {
  buildPoolSchema,
  definePoolSchema,
  freeDiskQuery,
  poolLimitsBody,
  poolParams,
  poolSecretBody,
  redefinePoolSchema,
} from '../../shared/protocol/agent.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';

/** Define, build, start, refresh, stop, delete, undefine: the life of a pool in libvirt's words. */
export function poolRoutes(http: AgentHttp, agent: HostAgent): void {
  const { pools } = agent;
  const params = { schema: { params: poolParams } };
  http.get('/v1/pools', () => pools.list());
  http.post('/v1/pools', { schema: { body: definePoolSchema } }, (request) => pools.define(request.body));
  http.get('/v1/pools/:pool', params, (request) => pools.get(request.params.pool));
  http.put('/v1/pools/:pool', { schema: { params: poolParams, body: redefinePoolSchema } }, (request) => {
    if (request.body.name !== request.params.pool)
      throw new StowageError('invalid-argument', 'a pool keeps its name');
    return pools.redefine(request.body);
  });
  http.put('/v1/pools/:pool/limits', { schema: { params: poolParams, body: poolLimitsBody } }, (request) =>
    pools.setLimits(request.params.pool, request.body.limits),
  );
  http.get('/v1/pools/:pool/traits', params, (request) => pools.traits(request.params.pool));
  http.get(
    '/v1/pools/:pool/free-disk',
    { schema: { params: poolParams, querystring: freeDiskQuery } },
    async (request) => {
      const { vmid, format } = request.query;
      return { name: await agent.diskNumbers.freeName(request.params.pool, vmid, format) };
    },
  );
  http.get('/v1/pools/:pool/forecast', params, (request) => pools.forecast(request.params.pool));
  http.delete('/v1/pools/:pool', params, (request) => pools.undefine(request.params.pool).then(() => ({})));
  http.post(
    '/v1/pools/:pool/build',
    {
      schema: {
        params: poolParams,
        body: buildPoolSchema.extend({ ifAny: z.boolean() }).partial().nullish(),
      },
    },
    (request) =>
      pools.build(request.params.pool, request.body?.overwrite, request.body?.ifAny).then(() => ({})),
  );
  http.post(
    '/v1/pools/:pool/start',
    { schema: { params: poolParams, body: poolSecretBody.nullish() } },
    (request) => pools.start(request.params.pool, request.body?.secret),
  );
  http.post('/v1/pools/:pool/secret', { schema: { params: poolParams, body: poolSecretBody } }, (request) =>
    pools.giveSecret(request.params.pool, request.body.secret).then(() => ({})),
  );
  http.post('/v1/pools/:pool/stop', params, async (request) => {
    // What was received stays; nothing is written any more.
    await agent.sinks.close(request.params.pool);
    return pools.stop(request.params.pool);
  });
  http.post('/v1/pools/:pool/delete', params, (request) =>
    pools.delete(request.params.pool).then(() => ({})),
  );
  http.post('/v1/pools/:pool/refresh', params, (request) => pools.refresh(request.params.pool));
}
