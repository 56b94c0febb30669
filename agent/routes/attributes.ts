import {
  attributesBody,
  baseVolumeSchema,
  renameVolumeSchema,
  volumeParams,
} from '../../shared/protocol/agent.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';
import { changes } from './changes.ts';

/** What a volume has beside its content: its name, what people keep with it, and whether it is a base. */
export function attributeRoutes(http: AgentHttp, agent: HostAgent): void {
  const params = { params: volumeParams };
  const { change, destroy, takeAway } = changes(agent);

  /** A domain finds its image by the name. */
  http.post(
    '/v1/pools/:pool/volumes/:volume/rename',
    { schema: { ...params, body: renameVolumeSchema } },
    (request) =>
      takeAway(request, 'being renamed', async (operations) => {
        const { pool, volume } = request.params;
        const { name } = request.body;
        agent.pools.refuseName(pool, name);
        using _target = agent.use.write(`${pool}/${name}`, 'being named');
        return await operations.rename(volume, name);
      }),
  );

  /** What runs on it would write to a base. */
  http.put(
    '/v1/pools/:pool/volumes/:volume/base',
    { schema: { ...params, body: baseVolumeSchema } },
    (request) =>
      (request.body.isBase ? destroy : takeAway)(request, 'being made a base, or a volume', (operations) =>
        operations.setBase(request.params.volume, request.body.isBase),
      ),
  );

  http.patch(
    '/v1/pools/:pool/volumes/:volume/attributes',
    { schema: { ...params, body: attributesBody } },
    (request) =>
      change(request, 'being described', (operations) =>
        operations.setAttributes(request.params.volume, request.body),
      ),
  );
}
