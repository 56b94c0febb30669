import { z } from 'zod';
import { type Orphan, orphanSchema } from '../../shared/conf/orphan.ts';
import { clock, repeat, type Timer } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Leftovers } from '../store/repositories/pools.ts';
import type { Store } from '../store/store.ts';

const DAY_MS = 24 * 3600_000;
const HOUR_MS = 3600_000;
const STEP_MS = 60_000;
/** So many pools are looked at in a step, so long each: some 28,000 a day. */
const POOLS_A_STEP = 20;
const LOOK_MS = 60_000;
/** What takes less, and no agent made, is told only to who asks. */
const SMALL_BYTES = 1 << 20;

/** Whether it wants attention: it has lain there for a day, and takes room or was left by an agent. */
function isLeft({ modifiedAt = 0, allocationBytes, agentId }: Orphan): boolean {
  const isSmall = allocationBytes !== undefined && allocationBytes < SMALL_BYTES;
  return modifiedAt <= clock.now() - DAY_MS && (!isSmall || agentId !== undefined);
}

/**
 * Looks once a day into each running pool for what is no volume of anybody; nothing there is changed. A pool that cannot be looked into
 * keeps what was known of it, and is looked at again an hour later.
 */
export class LeftoverWatch {
  readonly #store: Store;
  readonly #events: EventLog;
  readonly #fleet: Fleet;
  readonly #timer: Timer;

  constructor(parts: { store: Store; events: EventLog; fleet: Fleet }) {
    this.#store = parts.store;
    this.#events = parts.events;
    this.#fleet = parts.fleet;
    // What cannot be read or written now is tried in the next step.
    this.#timer = repeat(STEP_MS, () => this.lookAtSome().catch(() => undefined));
  }

  close(): void {
    this.#timer.stop();
  }

  /** Looks into those that were not looked into for the longest time, at most 20. */
  async lookAtSome(): Promise<void> {
    const due = await this.#store.pools.lookedAtBefore(clock.now() - DAY_MS, POOLS_A_STEP);
    for (const pool of due) await this.#look(pool);
  }

  async #look({ host, name, leftovers: before }: { host: string; name: string; leftovers?: Leftovers }) {
    const now = clock.now();
    const found = await this.#ask(host, name).catch(() => undefined);
    if (found === undefined) {
      await this.#store.transaction(({ pools }) => pools.setLookedAt(host, name, now - DAY_MS + HOUR_MS));
      return;
    }
    const left = found.filter(isLeft);
    const leftovers: Leftovers | undefined =
      left.length === 0
        ? undefined
        : {
            count: left.length,
            allocationBytes: left.reduce((sum, { allocationBytes = 0 }) => sum + allocationBytes, 0),
            since: before?.since ?? now,
          };
    await this.#events.write(async ({ pools }) => {
      await pools.setLookedAt(host, name, now, leftovers ?? null);
      const isSame =
        before?.count === leftovers?.count && before?.allocationBytes === leftovers?.allocationBytes;
      return isSame ? [] : [{ type: 'pool', host, pool: name }];
    });
  }

  async #ask(host: string, pool: string): Promise<Orphan[]> {
    const stop = new AbortController();
    const late = new StowageError('cancelled', 'the look takes too long');
    using _timer = clock.after(LOOK_MS, () => stop.abort(late), false);
    const agent = await this.#fleet.client(host);
    const path = `/v1/pools/${encodeURIComponent(pool)}/orphans`;
    return agent.json(z.array(orphanSchema), path, { patient: true, signal: stop.signal });
  }
}
