import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { type AgentEvent, type EventsRequest, eventsRequestSchema } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import type { HostAgent } from '../host-agent.ts';
import { type AgentHttp, JSON_LINES } from '../http.ts';
import { agentInfo } from './host.ts';

const ALIVE_MS = 10_000;
/** A reader so far behind is cut: it asks for what it lacks when it comes back. */
const BACKLOG_BYTES = 16 << 20;

/**
 * The lines for one reader. First all that differs from what it knows, then each change. Changes go between the lines of
 * the former: each line is true when it is written.
 */
class EventStream {
  readonly stream = new PassThrough();
  readonly #agent: HostAgent;
  /** Until all that was there is told, a change does not say that everything up to it is known. */
  #volumesTold = false;
  #domains: 'unseen' | 'being told' | 'told' = 'unseen';

  constructor(agent: HostAgent) {
    this.#agent = agent;
  }

  #follow(): void {
    const agent = this.#agent;
    const alive = clock.every(ALIVE_MS, () => this.#write({ type: 'alive' }), false);
    const volumes = (event: AgentEvent): void =>
      void this.#write(event.type === 'volumes' && !this.#volumesTold ? { ...event, now: undefined } : event);
    const domains = (event: AgentEvent): void => {
      if (this.#domains === 'unseen') return;
      this.#write(
        event.type === 'domains' && this.#domains !== 'told' ? { ...event, now: undefined } : event,
      );
    };
    agent.pools.on('event', volumes);
    agent.domainWatch.on('event', domains);
    this.stream.once('close', () => {
      alive.stop();
      agent.pools.off('event', volumes);
      agent.domainWatch.off('event', domains);
    });
  }

  #write(event: AgentEvent): boolean {
    const more = this.stream.write(`${JSON.stringify(event)}\n`);
    if (this.stream.writableLength > BACKLOG_BYTES) this.stream.destroy();
    return more;
  }

  /** No faster than it is read. */
  async #writeAll(lines: Iterable<AgentEvent>): Promise<void> {
    for (const line of lines) {
      if (this.stream.destroyed) return;
      if (!this.#write(line))
        await Promise.race([once(this.stream, 'drain'), once(this.stream, 'close')]).catch(() => undefined);
      await new Promise(setImmediate);
    }
  }

  async tell({ known, domains }: EventsRequest): Promise<void> {
    const { pools, sinks, domainWatch } = this.#agent;
    this.#write({ type: 'agent', info: await agentInfo(this.#agent) });
    if (this.stream.destroyed) return;
    this.#follow();
    await this.#writeAll(pools.snapshot(known));
    this.#volumesTold = true;
    // Storage that does not answer holds up none of what is told.
    void sinks.list().then(
      (transfers) => transfers.length > 0 && this.#write({ type: 'holds-transfers' }),
      () => undefined,
    );
    await domainWatch.seen;
    this.#domains = 'being told';
    await this.#writeAll(domainWatch.snapshot(domains));
    this.#domains = 'told';
    this.#write({ type: 'caught-up' });
  }
}

/** The stream of everything that changes. */
export function eventRoutes(http: AgentHttp, agent: HostAgent): void {
  http.post('/v1/events', { schema: { body: eventsRequestSchema } }, (request, reply) => {
    const events = new EventStream(agent);
    const { stream } = events;
    request.raw.socket.once('close', () => stream.destroy());
    events.tell(request.body).catch((error) => stream.destroy(error));
    return reply.type(JSON_LINES).send(stream);
  });
}
