import { hostname } from 'node:os';
import { z } from 'zod';
import { type AgentInfo, PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { hostDevices } from '../devices/host-devices.ts';
import { doctor } from '../doctor.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';

const sourceParams = z.object({ type: z.string().max(32) });
const sourceQuery = z.object({ host: z.string().max(255).optional() });
const devicesQuery = z.object({ server: z.string().max(255).optional() });

export async function agentInfo(agent: HostAgent): Promise<AgentInfo> {
  const backends = agent.backends.list().map(async (backend) => {
    const reason = (await agent.backends.probe(backend))?.reason;
    return {
      type: backend.type,
      contract: backend.contract,
      features: Object.fromEntries(
        Object.entries(backend.traits.features).map(([feature, states]) => [feature, [...states]]),
      ),
      volumeFormats: [...backend.traits.formats],
      usable: reason === undefined,
      reason,
    };
  });
  return {
    protocol: PROTOCOL_VERSION,
    version: agent.version,
    bundle: agent.bundle,
    agentId: agent.state.agentId,
    hostname: hostname(),
    pid: process.pid,
    refusedBackends: agent.backends.refused,
    rssBytes: process.memoryUsage.rss(),
    backends: await Promise.all(backends),
  };
}

/** Facts about the agent and its host. */
export function hostRoutes(http: AgentHttp, agent: HostAgent): void {
  http.get('/v1/info', () => agentInfo(agent));
  http.get('/v1/sources/:type', { schema: { params: sourceParams, querystring: sourceQuery } }, (request) => {
    const backend = agent.backends.get(request.params.type);
    if (!backend.findSources)
      throw new StowageError(
        'not-supported',
        `pool type '${backend.type}' does not support source discovery`,
      );
    return backend.findSources(request.query.host);
  });
  http.get('/v1/devices', { schema: { querystring: devicesQuery } }, (request) =>
    hostDevices(agent.backends, agent.pools.list(), request.query.server),
  );
  http.get('/v1/doctor', async () => [
    ...(await doctor(agent.state.directory, agent.backends)),
    ...agent.proxmox.others.map(({ storage, reason, isFault }) => ({
      name: `storage '${storage}' of Proxmox VE`,
      ok: !isFault,
      detail: `no pool here: ${reason}`,
    })),
  ]);

  http.post('/v1/shutdown', async (_request, reply) => {
    await reply.code(202).send({});
    clock.after(50, () => process.kill(process.pid, 'SIGTERM'));
  });
}
