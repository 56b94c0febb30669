import { z } from 'zod';
import { changeDeviceSchema, defineDomainSchema, domainParams } from '../../shared/protocol/domains.ts';
import { DEVICE_CHANGES } from '../../shared/protocol/lists.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';

const documentQuery = z.object({
  inactive: z.stringbool().default(false),
  secure: z.stringbool().default(false),
});

/** Domains as users of volumes: those defined here, with what virsh does to them, and those that were found. */
export function domainRoutes(http: AgentHttp, { domains, domainWatch }: HostAgent): void {
  const params = { params: domainParams };
  /** The event is sent before the answer. */
  const afterTelling = async <T>(work: Promise<T>): Promise<T> => {
    const done = await work;
    // It is done all the same: a look that fails now is made again by itself.
    await domainWatch.look().catch(() => undefined);
    return done;
  };
  http.post('/v1/domains', { schema: { body: defineDomainSchema } }, (request) =>
    afterTelling(domains.defined.define(request.body.xml)),
  );
  http.get(
    '/v1/domains/:domain/document',
    { schema: { ...params, querystring: documentQuery } },
    async (request) => {
      const { domain } = request.params;
      return { xml: (await domains.own(domain)).document(domain, request.query) };
    },
  );
  http.delete('/v1/domains/:domain', { schema: params }, async (request) => {
    const own = await domains.own(request.params.domain);
    await afterTelling(own.undefine(request.params.domain));
    return {};
  });
  http.post('/v1/domains/:domain/start', { schema: params }, async (request) => {
    const own = await domains.own(request.params.domain);
    return afterTelling(own.start(request.params.domain));
  });
  http.post('/v1/domains/:domain/destroy', { schema: params }, async (request) => {
    const own = await domains.own(request.params.domain);
    await afterTelling(own.destroy(request.params.domain));
    return {};
  });
  for (const change of DEVICE_CHANGES) {
    http.post(
      `/v1/domains/:domain/${change}`,
      { schema: { ...params, body: changeDeviceSchema } },
      async (request) => {
        const { domain } = request.params;
        const { xml, ...affect } = request.body;
        const own = await domains.own(domain);
        return afterTelling(own.changeDevice(domain, xml, change, affect));
      },
    );
  }
}
