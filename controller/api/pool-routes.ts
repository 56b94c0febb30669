import { z } from 'zod';
import { formatCapabilities } from '../../shared/conf/capabilities-xml.ts';
import { poolDefinitionSchema, poolSchema } from '../../shared/conf/pool.ts';
import { documentOf } from '../../shared/conf/pool-document.ts';
import { parsePool } from '../../shared/conf/pool-xml.ts';
import { formatSources, foundSourceSchema } from '../../shared/conf/sources-xml.ts';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import { agentInfoSchema, definePoolSchema } from '../../shared/protocol/agent.ts';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import { hostParams } from './host-routes.ts';
import { type ApiHttp, wantsXml } from './http.ts';

export const poolParams = hostParams.extend({ pool: nameSchema });
const hostQuery = z.object({ host: nameSchema.optional() });

const createPoolSchema = definePoolSchema.extend({
  /** Make the storage, such as the directory, before the pool is started. */
  build: z.boolean().default(true),
  /** What building does where something is there already: `false` refuses, `true` overwrites; absent: what is safe. */
  overwrite: z.boolean().optional(),
  start: z.boolean().default(true),
});

/** For a libvirt document, which cannot say it: the same as in our own. */
const createPoolQuery = z.object({
  build: z.stringbool().optional(),
  overwrite: z.stringbool().optional(),
  start: z.stringbool().optional(),
  autostart: z.stringbool().optional(),
});

/** As libvirt's flags: `overwrite=true`, `overwrite=false` (refuse where something is), or nothing. */
const buildQuery = z.object({ overwrite: z.stringbool().optional() });

/** Another host to look on. */
const sourcesQuery = z.object({ host: z.string().max(255).optional() });

/** For a libvirt document, which cannot say it: as it was, unless told. */
const redefinePoolQuery = createPoolQuery.pick({ autostart: true });

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
      const document = documentOf(await inventory.definition(request.params.host, request.params.pool), {
        capacityBytes: pool.capacity_bytes,
        allocationBytes: pool.allocation_bytes,
        availableBytes: pool.available_bytes,
      });
      return reply.type(XML_TYPE).send(document);
    },
  );

  /** libvirt's documents: which pools the host can have, and what could be found for them. */
  http.get(
    '/api/v1/hosts/:host/pool-capabilities',
    { config: { role: 'viewer' }, schema: { tags, params: hostParams } },
    async (request, reply) => {
      const agent = await fleet.client(request.params.host);
      const { backends } = await agent.json(agentInfoSchema, '/v1/info');
      return reply.type(XML_TYPE).send(formatCapabilities(backends.filter(({ usable }) => usable)));
    },
  );
  http.get(
    '/api/v1/hosts/:host/pool-sources/:type',
    {
      config: { role: 'operator' },
      schema: { tags, params: hostParams.extend({ type: nameSchema }), querystring: sourcesQuery },
    },
    async (request, reply) => {
      const { host, type } = request.params;
      const agent = await fleet.client(host);
      const query = request.query.host === undefined ? '' : `?host=${encodeURIComponent(request.query.host)}`;
      const sources = await agent.json(
        z.array(foundSourceSchema),
        `/v1/sources/${encodeURIComponent(type)}${query}`,
      );
      return reply.type(XML_TYPE).send(formatSources(sources));
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
        const asked = { ...parsePool(request.body), ...createPoolQuery.parse(request.query) };
        // Validated next, as any body is.
        request.body = asked as typeof request.body;
      },
    },
    async (request, reply) => {
      const { build, overwrite, start, ...definition } = request.body;
      request.note = {
        target: `${request.params.host}/${definition.name}`,
        detail: `${definition.type} ${definition.target.path ?? ''}`,
      };
      const agent = await fleet.client(request.params.host);
      let pool = await agent.json(poolSchema, '/v1/pools', { method: 'POST', json: definition });
      const path = `/v1/pools/${encodeURIComponent(pool.name)}`;
      try {
        if (build) await agent.send(`${path}/build`, { method: 'POST', json: { overwrite } });
        if (start) pool = await agent.json(poolSchema, `${path}/start`, { method: 'POST' });
      } catch (error) {
        await agent.send(path, { method: 'DELETE' }).catch(() => undefined);
        throw error;
      }
      return reply.code(201).send(pool);
    },
  );

  /** Replaces what a stopped pool is. */
  http.put(
    '/api/v1/hosts/:host/pools/:pool',
    {
      config: { role: 'admin', audit: 'pool.redefine' },
      schema: { tags, params: poolParams, querystring: redefinePoolQuery, body: poolDefinitionSchema },
      preValidation: async (request) => {
        if (typeof request.body !== 'string') return;
        const { host, pool } = request.params as z.output<typeof poolParams>;
        const { autostart } = redefinePoolQuery.parse(request.query);
        const now = autostart ?? (await inventory.pool(host, pool)).autostart === 1;
        request.body = { ...parsePool(request.body), autostart: now };
      },
    },
    async (request) => {
      const { host, pool } = request.params;
      request.note = { detail: `${request.body.type} ${request.body.target.path ?? ''}` };
      const agent = await fleet.client(host);
      return agent.json(poolSchema, `/v1/pools/${encodeURIComponent(pool)}`, {
        method: 'PUT',
        json: request.body,
      });
    },
  );

  for (const action of ['build', 'start', 'stop', 'refresh'] as const) {
    // Building may destroy what is there.
    const role = action === 'build' ? ('admin' as const) : ('operator' as const);
    const config = { role, audit: `pool.${action}` };
    http.post(
      `/api/v1/hosts/:host/pools/:pool/${action}`,
      { config, schema: { tags, params: poolParams, querystring: buildQuery } },
      async (request) => {
        const { host, pool } = request.params;
        const { overwrite } = request.query;
        if (overwrite) request.note = { detail: 'what is there is overwritten' };
        if (action === 'stop') await leases.refuseHeld(`${host}/${pool}`);
        const agent = await fleet.client(host);
        const agentPath = `/v1/pools/${encodeURIComponent(pool)}/${action}`;
        if (action !== 'build') return agent.json(poolSchema, agentPath, { method: 'POST', patient: true });
        await agent.send(agentPath, { method: 'POST', json: { overwrite }, patient: true });
        return {};
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
      if (request.query.storage === 'true') await agent.send(`${path}/delete`, { method: 'POST' });
      await agent.send(path, { method: 'DELETE' });
      return reply.code(204).send();
    },
  );
}
