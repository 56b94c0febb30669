import { hostname } from 'node:os';
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import type { AgentEvent, AgentInfo } from '../../shared/protocol/agent.ts';
import { PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { doctor } from '../doctor.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';

const ALIVE_MS = 10_000;
/** A reader so far behind is cut: it asks for a snapshot when it comes back. */
const BACKLOG_BYTES = 16 << 20;

const sourceParams = z.object({ type: z.string().max(32) });
const sourceQuery = z.object({ host: z.string().max(255).optional() });

async function info(agent: HostAgent): Promise<AgentInfo> {
  const backends = agent.backends.list().map(async (backend) => {
    const reason = await backend.probe();
    return {
      type: backend.type,
      contract: backend.contract,
      capabilities: [...backend.capabilities],
      volumeFormats: backend.volumeFormats && [...backend.volumeFormats],
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
    rssBytes: process.memoryUsage.rss(),
    backends: await Promise.all(backends),
  };
}

/** Facts about the agent and its host, and the stream of everything that changes. */
export function hostRoutes(http: AgentHttp, agent: HostAgent): void {
  http.get('/v1/info', () => info(agent));
  http.get('/v1/sources/:type', { schema: { params: sourceParams, querystring: sourceQuery } }, (request) => {
    const backend = agent.backends.get(request.params.type);
    if (!backend.findSources)
      throw new StowageError(
        'not-supported',
        `pool type '${backend.type}' does not support source discovery`,
      );
    return backend.findSources(request.query.host);
  });
  http.get('/v1/doctor', () => doctor(agent.state.directory));

  http.get('/v1/events', (request, reply) => {
    const stream = new PassThrough();
    const write = (event: AgentEvent): void => {
      stream.write(`${JSON.stringify(event)}\n`);
      if (stream.writableLength > BACKLOG_BYTES) stream.destroy();
    };
    agent.pools.on('event', write);
    write(agent.pools.snapshot());
    const alive = setInterval(() => write({ type: 'alive' }), ALIVE_MS);
    const stop = (): void => {
      clearInterval(alive);
      agent.pools.off('event', write);
      stream.destroy();
    };
    stream.once('close', stop);
    request.raw.socket.once('close', stop);
    return reply.type('application/x-ndjson').send(stream);
  });

  http.post('/v1/shutdown', async (_request, reply) => {
    await reply.code(202).send({});
    setTimeout(() => process.kill(process.pid, 'SIGTERM'), 50);
  });
}
