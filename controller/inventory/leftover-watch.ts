import type { FastifyBaseLogger } from 'fastify';
import { type Orphan, orphansSchema } from '../../shared/conf/orphan.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Fleet } from '../hosts/fleet.ts';
import { HostRound } from '../hosts/host-round.ts';
import type { Leftovers } from '../store/repositories/pools.ts';
import type { Store } from '../store/store.ts';

const DAY_MS = 24 * 3600_000;
const HOUR_MS = 3600_000;
const LOOK_MS = 60_000;
/** A visit begins no other look when it has taken so long. */
const VISIT_MS = 60_000;
const MOST_POOLS = 200;
/** Pools whose failures are remembered, so that each is told once. */
const MOST_FAILING = 1000;

interface Parts {
  store: Store;
  events: EventLog;
  fleet: Fleet;
  logger: Pick<FastifyBaseLogger, 'warn'>;
}

/**
 * Looks once a day into each running pool for what an agent has left there; nothing is changed. A pool that cannot be looked into keeps
 * what was known of it, which is logged once, and is looked into again an hour later.
 */
export class LeftoverWatch {
  readonly #parts: Parts;
  readonly #round: HostRound;
  readonly #failing = new Set<string>();

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#round = new HostRound(parts.fleet, (host) => this.visit(host));
  }

  close(): void {
    this.#round.close();
  }

  /** Looks into the pools of a host that were not looked into for a day, the longest first, for a minute; none after one that fails. */
  async visit(host: string): Promise<void> {
    const due = await this.#parts.store.pools.lookedAtBefore(host, clock.now() - DAY_MS, MOST_POOLS);
    const enough = clock.monotonicMs() + VISIT_MS;
    for (const pool of due) if (!(await this.#look(host, pool)) || clock.monotonicMs() > enough) return;
  }

  /** Whether it could be looked into. */
  async #look(host: string, pool: string): Promise<boolean> {
    const { store, logger } = this.#parts;
    const place = `${host}/${pool}`;
    try {
      await this.note(host, pool, await this.#ask(host, pool));
      this.#failing.delete(place);
      return true;
    } catch (error) {
      const { message } = toStowageError(error);
      if (!this.#failing.has(place) && this.#failing.size < MOST_FAILING) {
        this.#failing.add(place);
        logger.warn({ host, pool, reason: message }, 'leftovers cannot be looked for');
      }
      await store.transaction(({ pools }) => pools.setLookedAt(host, pool, clock.now() - DAY_MS + HOUR_MS));
      return false;
    }
  }

  async #ask(host: string, pool: string): Promise<Orphan[]> {
    const stop = new AbortController();
    const late = new StowageError('cancelled', 'the look takes too long');
    using _timer = clock.after(LOOK_MS, () => stop.abort(late), false);
    const agent = await this.#parts.fleet.client(host);
    const path = `/v1/pools/${encodeURIComponent(pool)}/orphans`;
    return agent.json(orphansSchema, path, { patient: true, signal: stop.signal });
  }

  /**
   * Keeps what was found in a pool now: what was left by the agent of the host, or by one that the fleet does not know (any more), a day
   * ago or more, and that nothing refers to.
   */
  async note(host: string, pool: string, orphans: readonly Orphan[]): Promise<void> {
    const { events } = this.#parts;
    const old = orphans.filter(
      ({ users, modifiedAt = 0 }) => users.length === 0 && modifiedAt <= clock.now() - DAY_MS,
    );
    const owners = await this.#parts.fleet.namesOfAgents(old.flatMap(({ agentId = [] }) => agentId));
    // What another host of the fleet has there, such as its trash, is that one's; what no agent made is its owner's.
    const left = old.filter(({ agentId }) => agentId !== undefined && (owners.get(agentId) ?? host) === host);
    const sum = left.reduce((total, { allocationBytes = 0 }) => total + allocationBytes, 0);
    const found = { count: left.length, allocationBytes: Math.min(sum, Number.MAX_SAFE_INTEGER) };
    await events.write(async ({ pools }) => {
      const now = clock.now();
      const before = await pools.leftoversOf(host, pool);
      const leftovers: Leftovers | undefined =
        found.count === 0 ? undefined : { ...found, since: before?.since ?? now };
      await pools.setLeftovers(host, pool, leftovers, now);
      const isSame =
        before?.count === leftovers?.count && before?.allocationBytes === leftovers?.allocationBytes;
      return isSame ? [] : [{ type: 'pool', host, pool }];
    });
  }
}
