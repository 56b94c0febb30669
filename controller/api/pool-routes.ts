import { z } from 'zod';
import type { Pool } from '../../shared/conf/pool.ts';
import { definitionOf, documentOf } from '../../shared/conf/pool-document.ts';
import { parsePool } from '../../shared/conf/pool-xml.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { definePoolSchema } from '../../shared/protocol/agent.ts';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import { hostParams } from './host-routes.ts';
import { type ApiHttp, wantsXml } from './http.ts';

export const poolParams = hostParams.extend({ pool: nameSchema });
const hostQuery = z.object({ host: nameSchema.optional() });

const createPoolSchema = definePoolSchema.extend({
  /** Make the storage, such as the directory, before the pool is started. */
  build: z.boolean().default(true),
  start: z.boolean().default(true),
});

/** For a libvirt document, which cannot say it: the same as in our own. */
const createPoolQuery = z.object({
  build: z.stringbool().optional(),
  start: z.stringbool().optional(),
  autostart: z.stringbool().optional(),
});

/** Pools, in libvirt's words. */
export function poolRoutes(http: ApiHttp, { fleet, inventory, leases }: Parts): void {
  const tags = ['pools'];
  http.get(
    '/api/v1/pools',
    { config: { role: 'viewer' }, schema: { tags, querystring: hostQuery } },
    (request) => inventory.pools(request.query.host),
  );
  http.get(
    '/api/v1/hosts/:host/pools/:pool',
    { config: { role: 'viewer' }, schema: { tags, params: poolParams } },
    async (request, reply) => {
      const pool = await inventory.pool(request.params.host, request.params.pool);
      if (!wantsXml(request)) return pool;
      const document = documentOf(
        { name: pool.name, uuid: pool.uuid, type: pool.type, targetPath: pool.target_path },
        {
          capacityBytes: pool.capacity_bytes,
          allocationBytes: pool.allocation_bytes,
          availableBytes: pool.available_bytes,
        },
      );
      return reply.type(XML_TYPE).send(document);
    },
  );

  /** Define, build, start: after an error nothing of the pool is left defined. */
  http.post(
    '/api/v1/hosts/:host/pools',
    {
      config: { role: 'admin', audit: 'pool.create' },
      schema: { tags, params: hostParams, querystring: createPoolQuery, body: createPoolSchema },
      // Who may not do this has been refused before: only now is a document read.
      preValidation: async (request) => {
        if (typeof request.body !== 'string') return;
        const asked = { ...definitionOf(parsePool(request.body)), ...createPoolQuery.parse(request.query) };
        // Validated next, as any body is.
        request.body = asked as typeof request.body;
      },
    },
    async (request, reply) => {
      const { build, start, ...definition } = request.body;
      request.note = {
        target: `${request.params.host}/${definition.name}`,
        detail: `${definition.type} ${definition.target.path}`,
      };
      const agent = await fleet.client(request.params.host);
      let pool = await agent.json<Pool>('/v1/pools', { method: 'POST', json: definition });
      const path = `/v1/pools/${encodeURIComponent(pool.name)}`;
      try {
        if (build) await agent.json(`${path}/build`, { method: 'POST' });
        if (start) pool = await agent.json<Pool>(`${path}/start`, { method: 'POST' });
      } catch (error) {
        await agent.json(path, { method: 'DELETE' }).catch(() => undefined);
        throw error;
      }
      return reply.code(201).send(pool);
    },
  );

  for (const action of ['build', 'start', 'stop', 'refresh'] as const) {
    const config = { role: 'operator' as const, audit: `pool.${action}` };
    http.post(
      `/api/v1/hosts/:host/pools/:pool/${action}`,
      { config, schema: { tags, params: poolParams } },
      async (request) => {
        const { host, pool } = request.params;
        if (action === 'stop') await leases.refuseHeld(`${host}/${pool}`);
        const agent = await fleet.client(host);
        return agent.json(`/v1/pools/${encodeURIComponent(pool)}/${action}`, { method: 'POST' });
      },
    );
  }

  /** Undefines a stopped pool; with `storage=true` its empty directory goes too. */
  const deleteQuery = z.object({ storage: z.enum(['true', 'false']).default('false') });
  http.delete(
    '/api/v1/hosts/:host/pools/:pool',
    {
      config: { role: 'admin', audit: 'pool.delete' },
      schema: { tags, params: poolParams, querystring: deleteQuery },
    },
    async (request, reply) => {
      const { host, pool } = request.params;
      const agent = await fleet.client(host);
      const path = `/v1/pools/${encodeURIComponent(pool)}`;
      if (request.query.storage === 'true') await agent.json(`${path}/delete`, { method: 'POST' });
      await agent.json(path, { method: 'DELETE' });
      return reply.code(204).send();
    },
  );
}
