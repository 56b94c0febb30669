import type { AttentionItem, FleetPool } from '../../shared/protocol/api.ts';
import { taskOf } from '../../shared/protocol/job-words.ts';
import { clock } from '../../shared/util/clock.ts';
import { cut } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import type { DutyState } from '../audit/duty.ts';
import type { HostRecord } from '../store/repositories/hosts.ts';
import type { JobRecord } from '../store/repositories/jobs.ts';
import type { Store } from '../store/store.ts';

/** So long after its end a failed job wants attention. */
const FAILED_MS = 24 * 3600_000;
/** A host that is being reached for so long does not answer. */
const REACHING_MS = 120_000;
/** Leftovers are told when a look so much later has found some, too: what is being made or deleted may look like some. */
const LEFT_MS = 20 * 3600_000;
/** Of each kind, the newest failed jobs. Whoever has more of them needs no list. */
export const MOST_ITEMS = 500;
/** What agents tell may be long, or nonsense. */
const LONGEST_REASON = 300;
const LATEST_TIME = 8.64e15;

type PoolWithLeftovers = Awaited<ReturnType<Store['pools']['withLeftovers']>>[number];

const item = (given: AttentionItem): AttentionItem => ({
  ...given,
  reason: cut(given.reason.replace(/\s+/g, ' ').trim(), LONGEST_REASON),
  since: Math.min(Math.max(0, given.since), LATEST_TIME),
});

const ofHost = ({ name, reason, since, agentId }: HostRecord): AttentionItem =>
  item({
    id: `host-unreachable ${name}`,
    kind: 'host-unreachable',
    // One that was never reached keeps nobody from anything yet.
    severity: agentId === undefined ? 'warning' : 'critical',
    host: name,
    summary: `host ${name} does not answer`,
    reason: reason ?? 'its agent has not dialled in',
    since,
  });

const ofPoolDown = ({ host, name, state, reason, since = 0 }: FleetPool): AttentionItem =>
  item({
    ...{ host, pool: name, since },
    id: `pool-down ${host}/${name}`,
    kind: 'pool-down',
    severity: 'critical',
    summary: `pool ${host}/${name} is ${state}`,
    reason: reason ?? 'it is not started',
  });

const ofPoolFilling = ({ host, name, fill, availableBytes }: FleetPool): AttentionItem =>
  item({
    // Since when it is so its host does not tell.
    ...{ host, pool: name, since: 0 },
    id: `pool-filling ${host}/${name}`,
    kind: 'pool-filling',
    severity: fill === 'critical' ? 'critical' : 'warning',
    summary: `pool ${host}/${name} is ${fill === 'critical' ? 'critically' : 'nearly'} full`,
    reason: `${formatBytes(availableBytes)} available`,
  });

function ofLeftovers({ host, name, count, allocationBytes, since }: PoolWithLeftovers): AttentionItem {
  const room = allocationBytes > 0 ? `${formatBytes(allocationBytes)}: ` : '';
  return item({
    ...{ host, pool: name, since },
    id: `pool-leftovers ${host}/${name}`,
    kind: 'pool-leftovers',
    severity: 'warning',
    summary: `pool ${host}/${name} has ${count === 1 ? 'a leftover' : `${count} leftovers`} of agents`,
    reason: `${room}see \`stowage pool orphans ${host}/${name}\``,
  });
}

function ofJob(job: JobRecord): AttentionItem {
  const { id, target, state, error, endedAt, createdAt } = job;
  const [host, pool] = target.split('/');
  const isFailed = state === 'failed';
  return item({
    id: `job-${state} ${id}`,
    kind: isFailed ? 'job-failed' : 'job-waiting',
    severity: 'warning',
    host,
    pool,
    job: id,
    summary: `job ${id}, ${taskOf(job)} ${target}, ${isFailed ? 'failed' : 'waits'}`,
    reason: error?.message ?? '',
    since: endedAt ?? createdAt,
  });
}

const kindOf = ({ kind, standstill }: DutyState): keyof typeof SUMMARIES =>
  standstill?.isDisputed ? 'trail-disputed' : kind;
const idOfTrail = (kind: string, place: string): string => `${kind} ${place}`;

const SUMMARIES = {
  'trail-not-forwarded': (place: string) => `the audit trail does not reach ${place}`,
  'trail-not-witnessed': (place: string) => `the audit trail is not seen by its witness ${place}`,
  'trail-not-archived': (place: string) => `old records of the audit trail cannot be archived in ${place}`,
  'trail-disputed': (place: string) => `${place} has seen another audit trail than there is here`,
};

function ofTrail(state: DutyState): AttentionItem[] {
  const { place, standstill } = state;
  if (standstill === undefined) return [];
  const kind = kindOf(state);
  return [
    item({
      id: idOfTrail(kind, place),
      kind,
      severity: standstill.isDisputed ? 'critical' : 'warning',
      summary: SUMMARIES[kind](place),
      reason: standstill.reason,
      since: standstill.since,
    }),
  ];
}

/** What of the fleet wants somebody to look, the worst first: at most {@link MOST_ITEMS} of each kind. */
export class Attention {
  readonly #store: Store;
  readonly #trail: () => readonly DutyState[];

  /** `trail` tells of all places where the trail goes. */
  constructor(store: Store, trail: () => readonly DutyState[] = () => []) {
    this.#store = store;
    this.#trail = trail;
  }

  /** Of what is in the scopes. Throws when anything of it cannot be read: then nothing is known to be over. */
  async items(scopes: readonly string[]): Promise<AttentionItem[]> {
    const { hosts, pools, jobs } = this.#store;
    const limit = MOST_ITEMS;
    const now = clock.now();
    // Of a host that does not answer nothing is known of its pools: those of hosts that do are asked for.
    const [away, reaching, down, filling, littered, failed, waiting] = await Promise.all([
      hosts.list({ scopes, state: 'unreachable', limit }),
      hosts.list({ scopes, state: 'connecting', limit }),
      pools.down(scopes, limit),
      pools.filling(scopes, limit),
      pools.withLeftovers(scopes, LEFT_MS, limit),
      jobs.list({ scopes, state: 'failed', isUndismissed: true, limit }),
      jobs.list({ scopes, state: 'waiting', limit }),
    ]);
    return [
      ...[...away, ...reaching.filter(({ since }) => now - since > REACHING_MS)].slice(0, limit).map(ofHost),
      ...down.map(ofPoolDown),
      ...filling.map(ofPoolFilling),
      ...littered.map(ofLeftovers),
      ...failed.filter(({ endedAt = 0 }) => endedAt > now - FAILED_MS).map(ofJob),
      ...waiting.map(ofJob),
      // The trail is of the whole fleet.
      ...(scopes.length === 0 ? this.#trail().flatMap(ofTrail) : []),
    ].sort((one, other) => Number(other.severity === 'critical') - Number(one.severity === 'critical'));
  }

  /**
   * Whether one of all items, which was there and is not any more, is over: `aged` where it only got old, or newer ones took its place;
   * `unknown` where nobody can say. That it is on no list says nothing: each is looked at by itself.
   */
  async end({ id, kind, host, pool, job }: AttentionItem): Promise<'over' | 'aged' | 'unknown'> {
    if (job !== undefined) {
      const { state, dismissedAt } = (await this.#store.jobs.find(job)) ?? {};
      if (kind === 'job-failed') return state === 'failed' && dismissedAt === undefined ? 'aged' : 'over';
      // One that waits is tried now and then, and waits again.
      return state === 'waiting' || state === 'queued' || state === 'running' ? 'unknown' : 'over';
    }
    if (kind in SUMMARIES) {
      const state = this.#trail().find(({ place }) => idOfTrail(kind, place) === id);
      // Where it is not to go any more nothing is in the way.
      return state === undefined || state.isFlowing ? 'over' : 'unknown';
    }
    const record = await this.#store.hosts.byName(host!);
    if (record === undefined) return 'over';
    // Of one that does not answer, or is being reached again, nothing has ended.
    if (record.state !== 'reachable') return 'unknown';
    if (pool === undefined) return 'over';
    const found = await this.#store.pools.find(host!, pool);
    if (found === undefined) return 'over';
    if (kind === 'pool-leftovers')
      return (await this.#store.pools.leftoversOf(host!, pool)) === undefined ? 'over' : 'unknown';
    if (kind === 'pool-down') return found.state === 'inaccessible' ? 'unknown' : 'over';
    return found.state === 'running' && found.fill === 'normal' ? 'over' : 'unknown';
  }
}
