import type { AttentionItem, FleetPool } from '../../shared/protocol/api.ts';
import { clock } from '../../shared/util/clock.ts';
import type { HostRecord } from '../store/repositories/hosts.ts';
import type { JobRecord } from '../store/repositories/jobs.ts';
import type { Store } from '../store/store.ts';

/** So long after its end a failed job wants attention. */
export const FAILED_MS = 24 * 3600_000;
/** Of each kind. Whoever has more of them needs no list. */
export const MOST_ITEMS = 500;

const ofHost = ({ name, reason, since }: HostRecord): AttentionItem => ({
  id: `host-unreachable ${name}`,
  kind: 'host-unreachable',
  severity: 'critical',
  host: name,
  summary: `host ${name} does not answer`,
  reason: reason ?? 'its agent has not dialled in',
  since,
});

function ofPool({ host, name, state, fill, reason, since, ...space }: FleetPool): AttentionItem {
  const base = { host, pool: name, since: since ?? 0 };
  const place = `${host}/${name}`;
  if (state !== 'running')
    return {
      ...base,
      id: `pool-down ${place}`,
      kind: 'pool-down',
      severity: 'critical',
      summary: `pool ${place} is ${state}`,
      reason: reason ?? 'it is not started',
    };
  const used = space.capacityBytes > 0 ? (space.allocationBytes / space.capacityBytes) * 100 : 100;
  return {
    ...base,
    id: `pool-filling ${place}`,
    kind: 'pool-filling',
    severity: fill === 'critical' ? 'critical' : 'warning',
    summary: `pool ${place} is ${fill === 'critical' ? 'almost' : 'nearly'} full`,
    reason: `${used.toFixed(0)} % in use`,
  };
}

function ofJob({ id, kind, target, state, error, endedAt, createdAt }: JobRecord): AttentionItem {
  const [host, pool] = target.split('/');
  const isFailed = state === 'failed';
  return {
    id: `job-${state} ${id}`,
    kind: isFailed ? 'job-failed' : 'job-waiting',
    severity: 'warning',
    host,
    pool,
    job: id,
    summary: isFailed ? `job ${id}, ${kind} ${target}, failed` : `job ${id}, ${kind} ${target}, waits`,
    reason: error?.message ?? '',
    since: endedAt ?? createdAt,
  };
}

/** What of the fleet wants somebody to look, the worst first: at most {@link MOST_ITEMS} of each kind. */
export class Attention {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Of what is in the scopes. Throws when anything of it cannot be read: then nothing is known to be over. */
  async items(scopes: readonly string[]): Promise<AttentionItem[]> {
    const { hosts, pools, jobs } = this.#store;
    const limit = MOST_ITEMS;
    const [away, inNeed, failed, waiting] = await Promise.all([
      hosts.list({ scopes, state: 'unreachable', limit }),
      pools.inNeed(scopes, limit),
      jobs.list({ scopes, state: 'failed', limit }),
      jobs.list({ scopes, state: 'waiting', limit }),
    ]);
    const awayNames = new Set(away.map(({ name }) => name));
    const recent = clock.now() - FAILED_MS;
    return [
      ...away.map(ofHost),
      // Of a host that does not answer nothing is known of its pools.
      ...inNeed.filter(({ host }) => !awayNames.has(host)).map(ofPool),
      ...failed.filter(({ endedAt = 0 }) => endedAt > recent).map(ofJob),
      ...waiting.map(ofJob),
    ].sort((one, other) => Number(other.severity === 'critical') - Number(one.severity === 'critical'));
  }

  /**
   * Whether one of all items, which was there and is not among `now`, is over: `aged` where it only got old, `unknown` where nobody can
   * say.
   */
  async end(
    { kind, host, job }: AttentionItem,
    now: readonly AttentionItem[],
  ): Promise<'over' | 'aged' | 'unknown'> {
    // There are more of them than were told.
    if (now.filter((each) => each.kind === kind).length >= MOST_ITEMS) return 'unknown';
    if (kind === 'job-waiting') return 'over';
    if (kind === 'job-failed') {
      const record = await this.#store.jobs.find(job!);
      return record?.state === 'failed' ? 'aged' : 'over';
    }
    const record = await this.#store.hosts.byName(host!);
    // Of one that does not answer, or is being reached again, nothing has ended.
    return record === undefined || record.state === 'reachable' ? 'over' : 'unknown';
  }
}
