import type { FleetEvent, JobDetails } from '../../shared/protocol/api.ts';
import { mayTouch } from '../../shared/protocol/rights.ts';
import { isStowageError } from '../../shared/util/errors.ts';
import type { Principal } from '../auth/principal.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Inventory } from '../inventory/inventory.ts';
import type { JobRunner } from '../jobs/runner.ts';
import type { NumberedChange } from '../store/repositories/events.ts';
import type { EventLog } from './event-log.ts';

interface Parts {
  events: EventLog;
  fleet: Fleet;
  inventory: Inventory;
  jobs: JobRunner;
}

/** What has changed, with how it is now. */
export class FleetEvents {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * The events that a principal may see, after the number `since`, or from now on without one, until `signal` ends. `lost`
   * tells that some of them are not kept any more.
   */
  async *follow(
    principal: Principal,
    since: number | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<FleetEvent> {
    const { events } = this.#parts;
    const from = since ?? (await events.last());
    for await (const page of events.follow(from, signal)) {
      if ('lost' in page) {
        yield { seq: page.lost, type: 'lost' };
        continue;
      }
      const latest = new Map(page.map((change) => [keyOf(change), change.seq]));
      for (const change of page) {
        // A later one of the same page says it all; of what a reader may not see nothing is read.
        if (latest.get(keyOf(change)) !== change.seq) continue;
        if (change.type !== 'job' && !mayTouch(principal, change, howOf(change))) continue;
        const event = await this.#eventOf(change);
        if (event.type !== 'job' || mayHearOf(principal, event.now)) yield event;
      }
    }
  }

  async #eventOf(change: NumberedChange): Promise<FleetEvent> {
    const { fleet, inventory, jobs } = this.#parts;
    switch (change.type) {
      case 'host':
        return { ...change, now: await orAbsent(fleet.get(change.host)) };
      case 'pool':
        return { ...change, now: await orAbsent(inventory.pool(change.host, change.pool)) };
      case 'volume':
        return { ...change, now: await inventory.find(change) };
      case 'domain':
        return { ...change, now: await inventory.domain(change.host, { ...change, name: change.domain }) };
      case 'job':
        return { ...change, now: await orAbsent(jobs.get(change.job)) };
    }
  }
}

/** A domain uses what it likes of its host: who has a part of that only does not hear of it. */
const howOf = ({ type }: NumberedChange): 'look' | 'act' => (type === 'domain' ? 'act' : 'look');

const keyOf = ({ seq: _, ...change }: NumberedChange): string => JSON.stringify(change);

/** What is not there is told as absent; what cannot be read is an error. */
async function orAbsent<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isStowageError(error) && error.status === 404) return undefined;
    throw error;
  }
}

/** As in a list of jobs: both ends must be in its scopes. */
function mayHearOf(principal: Principal, job: JobDetails | undefined): boolean {
  if (principal.scopes.length === 0) return true;
  if (job === undefined) return false;
  return [job.target, job.source].every(
    (place) => place === undefined || mayTouch(principal, placeOf(place), 'look'),
  );
}

function placeOf(reference: string): { host: string; pool?: string } {
  const [host = '', pool] = reference.split('/');
  return { host, pool };
}
