import { once } from 'node:events';
import { hostname } from 'node:os';
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import type { AgentEvent, AgentInfo } from '../../shared/protocol/agent.ts';
import { eventsRequestSchema, PROTOCOL_VERSION } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { doctor } from '../doctor.ts';
import type { HostAgent } from '../host-agent.ts';
import type { AgentHttp } from '../http.ts';

const ALIVE_MS = 10_000;
/** A reader so far behind is cut: it asks for what it lacks when it comes back. */
const BACKLOG_BYTES = 16 << 20;

const sourceParams = z.object({ type: z.string().max(32) });
const sourceQuery = z.object({ host: z.string().max(255).optional() });

async function info(agent: HostAgent): Promise<AgentInfo> {
  const backends = agent.backends.list().map(async (backend) => {
    const reason = await agent.backends.probe(backend);
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

/** Writes a snapshot no faster than it is read. */
async function tellAll(
  stream: PassThrough,
  lines: Iterable<AgentEvent>,
  write: (event: AgentEvent) => boolean,
): Promise<void> {
  for (const line of lines) {
    if (stream.destroyed) return;
    if (!write(line))
      await Promise.race([once(stream, 'drain'), once(stream, 'close')]).catch(() => undefined);
    await new Promise(setImmediate);
  }
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
  http.get('/v1/doctor', () => doctor(agent.state.directory, agent.backends));

  http.post('/v1/events', { schema: { body: eventsRequestSchema } }, (request, reply) => {
    const stream = new PassThrough();
    let told = false;
    const write = (event: AgentEvent): boolean => {
      // Before all that was there is told, a change does not say that everything up to it is known.
      const line = event.type === 'volumes' && !told ? { ...event, now: undefined } : event;
      return send(line);
    };
    const send = (event: AgentEvent): boolean => {
      const more = stream.write(`${JSON.stringify(event)}\n`);
      if (stream.writableLength > BACKLOG_BYTES) stream.destroy();
      return more;
    };
    const alive = clock.every(ALIVE_MS, () => write({ type: 'alive' }), false);
    const stop = (): void => {
      alive.stop();
      agent.pools.off('event', write);
      stream.destroy();
    };
    stream.once('close', stop);
    request.raw.socket.once('close', stop);
    // Changes go between the lines of the snapshot: each line is true when it is written.
    agent.pools.on('event', write);
    tellAll(stream, agent.pools.snapshot(request.body.known), send).then(
      () => {
        told = true;
      },
      (error) => stream.destroy(error),
    );
    return reply.type('application/x-ndjson').send(stream);
  });

  http.post('/v1/shutdown', async (_request, reply) => {
    await reply.code(202).send({});
    clock.after(50, () => process.kill(process.pid, 'SIGTERM'));
  });
}
