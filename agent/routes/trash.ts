import type { TrashedVolume } from '../../shared/conf/trash.ts';
import {
  poolParams,
  purgeQuery,
  restoreBody,
  trashBody,
  trashParams,
  trashQuery,
  volumeParams,
  wipePartBody,
  wipeRequestBody,
} from '../../shared/protocol/agent.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';
import { changes } from './changes.ts';

/** Volumes that were taken aside: into the trash, back, or away for ever; and what is nobody's volume. */
export function trashRoutes(http: AgentHttp, agent: HostAgent): void {
  const { pools } = agent;
  const { change, takeAway } = changes(agent);
  const params = { schema: { params: trashParams } };

  http.post(
    '/v1/pools/:pool/volumes/:volume/trash',
    { schema: { params: volumeParams, body: trashBody } },
    (request) =>
      takeAway(request, 'going into the trash', () =>
        pools.trash(request.params.pool, (trash, pool) =>
          trash.add(pool, request.params.volume, request.body),
        ),
      ),
  );
  http.get(
    '/v1/pools/:pool/trash',
    { schema: { params: poolParams, querystring: trashQuery } },
    async (request) => {
      const { after, limit } = request.query;
      const all = await pools.trash(request.params.pool, (trash, pool) => trash.list(pool));
      const [at = 0, id = ''] = after?.split('-') ?? [];
      const isBehind = (each: TrashedVolume): boolean =>
        each.trashedAt > Number(at) || (each.trashedAt === Number(at) && each.id > id);
      return all.filter((each) => after === undefined || isBehind(each)).slice(0, limit);
    },
  );
  http.get('/v1/pools/:pool/trash/:id', params, (request) =>
    pools.trash(request.params.pool, async (trash) => trash.find(request.params.id)),
  );
  http.get('/v1/pools/:pool/orphans', { schema: { params: poolParams } }, (request) =>
    agent.orphans(request.params.pool),
  );
  http.get('/v1/trash/expired', () => pools.expired());
  http.post(
    '/v1/pools/:pool/trash/:id/restore',
    { schema: { params: trashParams, body: restoreBody } },
    (request) => {
      const { pool: name, id } = request.params;
      return pools.trash(name, (trash, pool) => {
        const { volume: was } = trash.find(id);
        const volume = request.body.name ?? was.name;
        pools.refuseName(name, volume);
        const target = { params: { pool: name, volume }, headers: request.headers };
        return change(target, 'being restored', async () => {
          using _reserved = pools.reserve(name, was.capacityBytes);
          return await trash.restore(pool, id, volume);
        });
      });
    },
  );
  http.post(
    '/v1/pools/:pool/trash/:id/wipe',
    { schema: { params: trashParams, body: wipePartBody } },
    (request) =>
      pools.trash(request.params.pool, (trash, pool) =>
        trash.wipe(pool, request.params.id, request.body.mostBytes),
      ),
  );
  http.put(
    '/v1/pools/:pool/trash/:id/wipe',
    { schema: { params: trashParams, body: wipeRequestBody } },
    (request) =>
      pools.trash(request.params.pool, (trash, pool) =>
        trash.requireWipe(pool, request.params.id, request.body),
      ),
  );
  http.delete(
    '/v1/pools/:pool/trash/:id',
    { schema: { params: trashParams, querystring: purgeQuery } },
    async (request) => {
      const { unwiped } = request.query;
      await pools.trash(request.params.pool, (trash, pool) => trash.purge(pool, request.params.id, unwiped));
      return {};
    },
  );
}
