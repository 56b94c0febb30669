import { z } from 'zod';
import { XML_TYPE } from '../../shared/conf/xml/write.ts';
import {
  type affectSchema,
  DEVICE_CHANGES,
  domainParams,
  domainSchema,
} from '../../shared/protocol/domains.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import { hostParams } from './host-routes.ts';
import type { ApiHttp } from './http.ts';

const params = hostParams.extend(domainParams.shape);
const flag = z.stringbool().default(false);
const affectQuery = z.object({
  live: flag,
  config: flag,
  current: flag,
  persistent: flag,
}) satisfies z.ZodType<z.output<typeof affectSchema>>;
const documentQuery = z.object({ inactive: flag });

function documentIn(body: unknown): string {
  if (typeof body === 'string') return body;
  throw new StowageError('invalid-argument', `the body is a libvirt document, of type ${XML_TYPE}`);
}

/** Domains as users of volumes, in virsh's words. Documents are read by the agents, after their senders were let in. */
export function domainRoutes(http: ApiHttp, { fleet }: Parts): void {
  const tags = ['domains'];
  const path = '/api/v1/hosts/:host/domains';
  const agentPath = (domain: string): string => `/v1/domains/${encodeURIComponent(domain)}`;

  /** As the hosts tell now; one that cannot be asked says so in its place. */
  http.get(
    '/api/v1/domains',
    { config: { role: 'viewer' }, schema: { tags, querystring: z.object({ host: nameSchema.optional() }) } },
    async (request) => {
      const { host } = request.query;
      const hosts = host === undefined ? await fleet.list() : [await fleet.row(host)];
      const answers = await Promise.all(
        hosts.map(async ({ name }) => {
          const asked = fleet.client(name).then((agent) => agent.json(z.array(domainSchema), '/v1/domains'));
          return asked.then(
            (domains) => ({ domains: domains.map((domain) => ({ host: name, ...domain })) }),
            (error) => ({ missing: { host: name, reason: String(error.message) } }),
          );
        }),
      );
      return {
        domains: answers.flatMap((answer) => ('domains' in answer ? answer.domains : [])),
        missing: answers.flatMap((answer) => ('missing' in answer ? [answer.missing] : [])),
      };
    },
  );

  http.post(
    path,
    { config: { role: 'operator', audit: 'domain.define' }, schema: { tags, params: hostParams } },
    async (request, reply) => {
      const agent = await fleet.client(request.params.host);
      const json = { xml: documentIn(request.body) };
      const domain = await agent.json(domainSchema, '/v1/domains', { method: 'POST', json });
      request.note = { target: `${request.params.host}/${domain.name}`, detail: domain.uuid };
      return reply.code(201).send(domain);
    },
  );

  /** The document, for everybody; with the secrets that stand in it, such as cookies, for those who may, and on record. */
  for (const secure of [false, true]) {
    http.get(
      `${path}/:domain${secure ? '/with-secrets' : ''}`,
      {
        config: secure ? { role: 'operator', audit: 'domain.read-secrets' } : { role: 'viewer' },
        schema: { tags, params, querystring: documentQuery },
      },
      async (request, reply) => {
        const { host, domain } = request.params;
        const agent = await fleet.client(host);
        const query = `inactive=${request.query.inactive}&secure=${secure}`;
        const { xml } = await agent.json(
          z.object({ xml: z.string() }),
          `${agentPath(domain)}/document?${query}`,
        );
        return reply.type(XML_TYPE).send(xml);
      },
    );
  }

  http.delete(
    `${path}/:domain`,
    { config: { role: 'operator', audit: 'domain.undefine' }, schema: { tags, params } },
    async (request, reply) => {
      const agent = await fleet.client(request.params.host);
      await agent.send(agentPath(request.params.domain), { method: 'DELETE' });
      return reply.code(204).send();
    },
  );

  for (const action of ['start', 'destroy'] as const) {
    http.post(
      `${path}/:domain/${action}`,
      { config: { role: 'operator', audit: `domain.${action}` }, schema: { tags, params } },
      async (request) => {
        const agent = await fleet.client(request.params.host);
        const path = `${agentPath(request.params.domain)}/${action}`;
        if (action === 'start') return agent.json(domainSchema, path, { method: 'POST' });
        await agent.send(path, { method: 'POST' });
        return {};
      },
    );
  }

  for (const change of DEVICE_CHANGES) {
    http.post(
      `${path}/:domain/${change}`,
      {
        config: { role: 'operator', audit: `domain.${change}` },
        schema: { tags, params, querystring: affectQuery },
      },
      async (request) => {
        const { host, domain } = request.params;
        const given = Object.entries(request.query).flatMap(([name, value]) => (value ? [name] : []));
        request.note = { detail: given.join(', ') };
        const agent = await fleet.client(host);
        const json = { ...request.query, xml: documentIn(request.body) };
        return agent.json(domainSchema, `${agentPath(domain)}/${change}`, { method: 'POST', json });
      },
    );
  }
}
