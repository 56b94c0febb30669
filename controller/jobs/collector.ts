import { z } from 'zod';
import { expiredSchema, heldTransferSchema, transferSpecSchema } from '../../shared/protocol/agent.ts';
import { clock, type Timer } from '../../shared/util/clock.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { AgentClient } from '../hosts/agent-client.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Store } from '../store/store.ts';

/** A transfer younger than this may belong to a job that is just being recorded. */
const YOUNG_MS = 60_000;
/** By then what was young is not any more. */
const SLACK_MS = 5000;
/** After a start all hosts come back at once; those that hold something are looked at within this time. */
const SPREAD_MS = 60_000;
/** Within this time every host is looked at once. */
const ROUND_MS = 3600_000;
const STEP_MS = 60_000;

/**
 * Cleans up on hosts: the transfers that no job owns any more, of jobs that ended while the host was away and of a controller whose
 * store was lost; and what lies in a trash longer than it was to be kept. A host is looked at when it comes back and says that it
 * holds transfers, when young ones were found there, and once an hour.
 */
export class Collector {
  readonly #store: Store;
  readonly #fleet: Fleet;
  readonly #audit: AuditTrail;
  readonly #round: Timer;
  /** Hosts that are looked at in a moment. */
  readonly #awaited = new Set<string>();
  /** The host that was looked at last. */
  #last = '';

  constructor(parts: { store: Store; fleet: Fleet; audit: AuditTrail }) {
    this.#store = parts.store;
    this.#fleet = parts.fleet;
    this.#audit = parts.audit;
    this.#round = clock.every(STEP_MS, () => void this.#goOn().catch(() => undefined), false);
  }

  close(): void {
    this.#round.stop();
  }

  /** A part of the hosts each time, so that all have been looked at after a round. */
  async #goOn(): Promise<void> {
    const { reachable = 0 } = (await this.#fleet.totals([])).byState;
    const limit = Math.ceil((reachable * STEP_MS) / ROUND_MS);
    const hosts = await this.#fleet.list({ state: 'reachable', after: this.#last, limit });
    for (const { name } of hosts) await this.collect(name);
    this.#last = hosts.length < limit ? '' : (hosts.at(-1)?.name ?? '');
  }

  /** Looks, in a moment, at a host that has come back and holds transfers. */
  hasTransfers(host: string): void {
    this.#lookIn(host, clock.random() * SPREAD_MS);
  }

  /** However often a host says so, it is looked at once. */
  #lookIn(host: string, ms: number): void {
    if (this.#awaited.has(host)) return;
    this.#awaited.add(host);
    const look = (): void => {
      this.#awaited.delete(host);
      void this.collect(host);
    };
    clock.after(ms, look, false);
  }

  /** Looks at one host. What it cannot reach or remove now it finds again later. */
  async collect(host: string): Promise<void> {
    try {
      await this.#collect(host);
    } catch {
      // The host is away, or busy: the next round looks again.
    }
  }

  async #collect(host: string): Promise<void> {
    const agent = await this.#fleet.client(host);
    await this.#emptyTrash(host, agent);
    const transfers = await agent.json(z.array(heldTransferSchema), '/v1/transfers');
    if (transfers.length === 0) return;
    const jobs = await this.#store.jobs.unended();
    const owned = new Set(jobs.map(({ notes }) => transferIdOf(notes)));
    const orphans = transfers.filter(({ id }) => !owned.has(id));
    const old = orphans.filter(({ touchedAt }) => touchedAt <= clock.now() - YOUNG_MS);
    if (old.length < orphans.length) this.#lookIn(host, YOUNG_MS + SLACK_MS);
    if (old.length === 0) return;
    const record = {
      actor: 'controller',
      source: 'controller',
      action: 'transfer.collect',
      target: host,
      detail: `${old.length} that no job owns`,
    };
    await this.#audit.append({ ...record, outcome: 'begun' });
    for (const { id } of old) await agent.send(`/v1/transfers/${id}`, { method: 'DELETE' });
    await this.#audit.append({ ...record, outcome: 'done' });
  }

  /** One after the other, each on record: what cannot be deleted now keeps nothing else. */
  async #emptyTrash(host: string, agent: AgentClient): Promise<void> {
    const expired = await agent.json(expiredSchema, '/v1/trash/expired');
    for (const { pool, trashed } of expired.slice(0, MOST_EXPIRED)) {
      // It is the controller's clock that counts.
      if (trashed.keepUntil > clock.now()) continue;
      const record = {
        actor: 'controller',
        source: 'controller',
        action: 'trash.purge',
        target: `${host}/${pool}`,
        detail: `${trashed.id}, which was ${trashed.volume.name}, kept as long as asked for`,
      };
      await this.#audit.append({ ...record, outcome: 'begun' });
      const outcome = await agent
        .send(`/v1/pools/${encodeURIComponent(pool)}/trash/${trashed.id}`, {
          method: 'DELETE',
          patient: true,
        })
        .then(
          () => 'done' as const,
          () => 'failed' as const,
        );
      await this.#audit.append({ ...record, outcome });
    }
  }
}

/** What an agent says may be deleted, at most so much in one look. */
const MOST_EXPIRED = 1000;

/** An upload's notes are its spec; a migration's hold one. */
function transferIdOf(notes: { spec?: unknown }): string | undefined {
  return transferSpecSchema.safeParse(notes.spec ?? notes).data?.id;
}
