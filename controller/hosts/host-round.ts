import pLimit from 'p-limit';
import { repeat, type Timer } from '../../shared/util/clock.ts';
import type { Fleet } from './fleet.ts';

/** Within this time every host has had its turn. */
const ROUND_MS = 3600_000;
const STEP_MS = 60_000;
/** At a time, so that one that answers late keeps no others from their turns. */
const HOSTS_AT_ONCE = 8;

/** Does something with every reachable host within each hour: with a part of them each minute, and in few of them at a time. */
export class HostRound {
  readonly #fleet: Fleet;
  readonly #visit: (host: string) => Promise<void>;
  readonly #timer: Timer;
  /** The host that was visited last. */
  #last = '';

  /** What `visit` throws is let be: the next round comes. */
  constructor(fleet: Fleet, visit: (host: string) => Promise<void>) {
    this.#fleet = fleet;
    this.#visit = visit;
    this.#timer = repeat(STEP_MS, () => this.goOn().catch(() => undefined));
  }

  close(): void {
    this.#timer.stop();
  }

  /** Visits the hosts whose turn it is. */
  async goOn(): Promise<void> {
    const { reachable = 0 } = (await this.#fleet.totals([])).byState;
    const count = Math.ceil((reachable * STEP_MS) / ROUND_MS);
    const hosts = await this.#fleet.list({ state: 'reachable', after: this.#last, limit: count });
    this.#last = hosts.length < count ? '' : (hosts.at(-1)?.name ?? '');
    const limit = pLimit(HOSTS_AT_ONCE);
    await Promise.allSettled(hosts.map(({ name }) => limit(() => this.#visit(name))));
  }
}
