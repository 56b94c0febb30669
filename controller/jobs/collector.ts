import { z } from 'zod';
import type { TrashedVolume } from '../../shared/conf/trash.ts';
import { expiredSchema, heldTransferSchema, transferSpecSchema } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import { splitReference } from '../../shared/util/references.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { AgentClient } from '../hosts/agent-client.ts';
import type { Fleet } from '../hosts/fleet.ts';
import { HostRound } from '../hosts/host-round.ts';
import type { Store } from '../store/store.ts';
import { free } from './kinds/free.ts';
import type { JobRunner } from './runner.ts';

/** A transfer younger than this may belong to a job that is just being recorded. */
const YOUNG_MS = 60_000;
/** By then what was young is not any more. */
const SLACK_MS = 5000;
/** After a start all hosts come back at once; those that hold something are looked at within this time. */
const SPREAD_MS = 60_000;

/**
 * Cleans up on hosts: the transfers that no job owns any more, of jobs that ended while the host was away and of a controller whose
 * store was lost; and what lies in a trash longer than it was to be kept. A host is looked at when it comes back and says that it
 * holds transfers, when young ones were found there, and once an hour.
 */
export class Collector {
  readonly #store: Store;
  readonly #fleet: Fleet;
  readonly #audit: AuditTrail;
  readonly #jobs: JobRunner;
  readonly #round: HostRound;
  /** Hosts that are looked at in a moment. */
  readonly #awaited = new Set<string>();

  constructor(parts: { store: Store; fleet: Fleet; audit: AuditTrail; jobs: JobRunner }) {
    this.#store = parts.store;
    this.#fleet = parts.fleet;
    this.#audit = parts.audit;
    this.#jobs = parts.jobs;
    this.#round = new HostRound(parts.fleet, (host) => this.collect(host));
  }

  close(): void {
    this.#round.close();
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
    // Neither keeps the other from being done.
    await Promise.allSettled([this.#dropTransfers(host, agent), this.#emptyTrash(host, agent)]);
  }

  async #dropTransfers(host: string, agent: AgentClient): Promise<void> {
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

  /** The ids of all that a job was begun for, whatever came of it: where it was cancelled or has failed, somebody decides. */
  async #freed(): Promise<Set<string>> {
    const begun = await this.#store.jobs.list({ kind: free.kind, limit: MOST_JOBS });
    return new Set(begun.flatMap(({ params }) => free.params.safeParse(params).data?.id ?? []));
  }

  /** One that was begun is not cut: what becomes of it must be known. An agent that does not answer ends with its link. */
  async #purge(agent: AgentClient, place: string, trashed: TrashedVolume): Promise<void> {
    const [, pool = ''] = splitReference(place);
    if (!isUnwiped(trashed))
      return agent.send(`/v1/pools/${encodeURIComponent(pool)}/trash/${trashed.id}`, { method: 'DELETE' });
    const { limitBytesPerSecond } = trashed.wiped ?? {};
    const params = { volume: `${place}/${trashed.volume.name}`, id: trashed.id, limitBytesPerSecond };
    await this.#jobs.submit(free, params, 'controller');
  }

  /** One after the other, each on record, for a while: what cannot be deleted now keeps nothing else. */
  async #emptyTrash(host: string, agent: AgentClient): Promise<void> {
    const stop = new AbortController();
    using _timer = clock.after(
      EMPTYING_MS,
      () => stop.abort(new StowageError('cancelled', 'it takes too long')),
      false,
    );
    const { signal } = stop;
    const expired = await agent.json(expiredSchema, '/v1/trash/expired', { signal });
    // It is the controller's clock that counts.
    const freed = expired.length > 0 ? await this.#freed() : new Set();
    const over = expired.filter(({ trashed }) => trashed.keepUntil <= clock.now() && !freed.has(trashed.id));
    // What cannot go shall not come first each time.
    const first = Math.floor(clock.random() * over.length);
    const chosen = [...over.slice(first), ...over.slice(0, first)].slice(0, MOST_A_LOOK);
    for (const { pool, trashed } of chosen) {
      if (signal.aborted) return;
      const record = {
        actor: 'controller',
        source: 'controller',
        action: isUnwiped(trashed) ? 'trash.free' : 'trash.purge',
        target: `${host}/${pool}`,
        detail: `${trashed.id}, which was ${trashed.volume.name}, kept as long as asked for`,
      };
      await this.#audit.append({ ...record, outcome: 'begun' });
      const failure = await this.#purge(agent, `${host}/${pool}`, trashed).then(
        () => undefined,
        (error) => toStowageError(error).message,
      );
      if (failure === undefined) await this.#audit.append({ ...record, outcome: 'done' });
      else await this.#audit.append({ ...record, outcome: 'failed', detail: `${record.detail}: ${failure}` });
    }
  }
}

/** Whether what is in the trash is to be overwritten, and is not yet. */
const isUnwiped = ({ wiped }: TrashedVolume): boolean =>
  wiped !== undefined && wiped.doneBytes !== wiped.totalBytes;

/** Of what an agent says may be deleted: so much in one look, which takes so long. */
const MOST_A_LOOK = 100;
const EMPTYING_MS = 60_000;
/** Of one kind, the newest, looked through. */
const MOST_JOBS = 10_000;

/** An upload's notes are its spec; a migration's hold one. */
function transferIdOf(notes: { spec?: unknown }): string | undefined {
  return transferSpecSchema.safeParse(notes.spec ?? notes).data?.id;
}
