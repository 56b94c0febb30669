import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { FleetPool } from '../../shared/protocol/api.ts';
import { isUp } from '../../shared/protocol/pool-state.ts';
import type { Attention } from '../attention/items.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { EventLog } from '../events/event-log.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { JobRunner } from '../jobs/runner.ts';
import { type Traffic, WAYS } from './traffic.ts';

interface Parts {
  fleet: Fleet;
  inventory: Inventory;
  jobs: JobRunner;
  events: EventLog;
  attention: Attention;
  audit: AuditTrail;
  traffic: Traffic;
}

/** Pools that have series of their own; of a larger fleet those that do not run, and those with the least space left. */
const MOST_POOLS = 2000;
const PAGE = 1000;

/** Where a scrape puts what it has read of the fleet. */
interface FleetGauges {
  hosts: Gauge<'state'>;
  pools: Gauge<'state'>;
  jobs: Gauge<'state'>;
  attention: Gauge<'kind' | 'severity'>;
  capacity: Gauge<'host' | 'pool' | 'type'>;
  allocation: Gauge<'host' | 'pool' | 'type'>;
  available: Gauge<'host' | 'pool' | 'type'>;
  provisioned: Gauge<'host' | 'pool' | 'type'>;
  volumes: Gauge<'host' | 'pool' | 'type'>;
  up: Gauge<'host' | 'pool' | 'type'>;
  leftOut: Gauge;
}

const OF_POOL = ['host', 'pool', 'type'] as const;

/** Numbers in the text of Prometheus. Names end with their unit; labels are those that there are boundedly many of. */
export class Metrics {
  readonly #parts: Parts;
  readonly #process = new Registry();
  readonly #requests: Counter<'action' | 'status'>;
  readonly #seconds: Histogram<'action'>;

  constructor(parts: Parts) {
    this.#parts = parts;
    const registers = [this.#process];
    collectDefaultMetrics({ register: this.#process });
    // Named as counters are, which they are not.
    for (const name of ['handles', 'requests', 'resources'])
      this.#process.removeSingleMetric(`nodejs_active_${name}_total`);
    this.#requests = new Counter({
      ...{
        registers,
        name: 'stowage_requests_total',
        help: 'Requests to the API, by action and HTTP status.',
      },
      labelNames: ['action', 'status'],
    });
    this.#seconds = new Histogram({
      ...{ registers, name: 'stowage_request_duration_seconds', labelNames: ['action'] },
      help: 'How long requests to the API took.',
      buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600],
    });
  }

  /** Notes a request that was answered. */
  answered(action: string, status: number, seconds: number): void {
    this.#requests.inc({ action, status });
    this.#seconds.observe({ action }, seconds);
  }

  /** What a scrape gets: of the fleet that part which the caller may see. */
  async text(scopes: readonly string[]): Promise<string> {
    const { fleet, inventory, jobs, events, attention, audit, traffic } = this.#parts;
    // Read anew each time: what is gone has no series, and two scrapes at once do not mix.
    const registry = new Registry();
    const gauges = fleetGauges(registry);
    const [hosts, pools, unended] = await Promise.all([
      fleet.totals(scopes),
      inventory.poolTotals(scopes),
      jobs.totals(scopes),
    ]);
    const byState = [
      [gauges.hosts, hosts.byState, ['connecting', 'reachable', 'unreachable']],
      [gauges.pools, pools.byState, ['inactive', 'building', 'running', 'inaccessible', 'away']],
      [gauges.jobs, unended.byState, ['queued', 'running', 'waiting', 'paused']],
    ] as const;
    for (const [gauge, counts, states] of byState)
      for (const state of states) gauge.set({ state }, counts[state] ?? 0);
    for (const { kind, severity } of await attention.items(scopes)) gauges.attention.inc({ kind, severity });
    const all: FleetPool[] = [];
    for (let after: string | undefined; ; ) {
      const page = await inventory.pools({ scopes: [...scopes], limit: PAGE, after });
      all.push(...page);
      if (page.length < PAGE) break;
      after = `${page.at(-1)!.host}/${page.at(-1)!.name}`;
    }
    // What is down comes first.
    const shareLeft = (pool: FleetPool): number =>
      !isUp(pool) ? -1 : pool.capacityBytes > 0 ? pool.availableBytes / pool.capacityBytes : 1;
    const told =
      all.length <= MOST_POOLS
        ? all
        : all.sort((one, other) => shareLeft(one) - shareLeft(other)).slice(0, MOST_POOLS);
    for (const pool of told) {
      const labels = { host: pool.host, pool: pool.name, type: pool.type };
      gauges.up.set(labels, isUp(pool) ? 1 : 0);
      gauges.volumes.set(labels, pool.volumeCount);
      // Of one that is away nothing is known now.
      if (!isUp(pool)) continue;
      gauges.capacity.set(labels, pool.capacityBytes);
      gauges.allocation.set(labels, pool.allocationBytes);
      gauges.available.set(labels, pool.availableBytes);
      if (pool.provisionedBytes !== undefined) gauges.provisioned.set(labels, pool.provisionedBytes);
    }
    gauges.leftOut.set(all.length - told.length);
    if (scopes.length > 0) return registry.metrics();
    new Gauge({
      ...{
        registers: [registry],
        name: 'stowage_events_last_number',
        help: 'The number of the last change of the fleet.',
      },
    }).set(await events.last());
    new Gauge({
      registers: [registry],
      name: 'stowage_trail_last_record',
      help: 'The number of the newest record of the audit trail.',
    }).set(await audit.lastSeq());
    const bytes = new Counter({
      ...{ registers: [registry], name: 'stowage_volume_bytes_total', labelNames: ['by'] },
      help: 'Bytes of volumes over the network since the start: by jobs between hosts, received and sent by the API.',
    });
    for (const by of WAYS) bytes.inc({ by }, traffic.bytes[by]);
    return `${await registry.metrics()}\n${await this.#process.metrics()}`;
  }

  get contentType(): string {
    return this.#process.contentType;
  }
}

function fleetGauges(registry: Registry): FleetGauges {
  const registers = [registry];
  const byState = (name: string, help: string): Gauge<'state'> =>
    new Gauge({ registers, name, help, labelNames: ['state'] });
  const ofPool = (name: string, help: string): FleetGauges['capacity'] =>
    new Gauge({ registers, name, help, labelNames: OF_POOL });
  return {
    hosts: byState('stowage_hosts', 'Hosts, by the state of their link.'),
    pools: byState('stowage_pools', 'Pools, by state; away on hosts that do not answer.'),
    jobs: byState('stowage_jobs', 'Jobs that have not ended, by state.'),
    attention: new Gauge({
      ...{ registers, name: 'stowage_attention_items', labelNames: ['kind', 'severity'] },
      help: 'What wants attention, as `stowage status` lists it.',
    }),
    up: ofPool('stowage_pool_up', '1 while the pool is running, on a host that answers.'),
    capacity: ofPool('stowage_pool_capacity_bytes', 'Size of the storage under a pool.'),
    allocation: ofPool('stowage_pool_allocation_bytes', 'What of it is in use.'),
    available: ofPool('stowage_pool_available_bytes', 'What of it is left.'),
    provisioned: ofPool('stowage_pool_provisioned_bytes', 'What the volumes may grow to together.'),
    volumes: ofPool('stowage_pool_volumes', 'Volumes that are known to be in a pool.'),
    leftOut: new Gauge({
      ...{
        registers,
        name: 'stowage_pools_left_out',
        help: 'Pools without series of their own: there are too many.',
      },
    }),
  };
}
