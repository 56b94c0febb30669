import { z } from 'zod';
import { heldTransferSchema, transferSpecSchema } from '../../shared/protocol/agent.ts';
import { clock } from '../../shared/util/clock.ts';
import type { Fleet } from '../hosts/fleet.ts';
import type { Store } from '../store/open.ts';

/** A transfer younger than this may belong to a job that is just being recorded. */
const YOUNG_MS = 60_000;

/**
 * Removes from a host the transfers that no job owns any more: those of jobs that ended while the host was away, and
 * those of a controller whose store was lost. Gives how many.
 */
export async function collectLeftovers(
  store: Store,
  fleet: Fleet,
  host: string,
  youngMs = YOUNG_MS,
): Promise<number> {
  const agent = await fleet.client(host);
  const transfers = await agent.json(z.array(heldTransferSchema), '/v1/transfers');
  if (transfers.length === 0) return 0;
  const jobs = await store
    .selectFrom('jobs')
    .select('notes')
    .where('state', 'in', ['queued', 'running', 'waiting'])
    .execute();
  const owned = new Set(jobs.map(({ notes }) => transferIdOf(JSON.parse(notes))));
  let removed = 0;
  for (const transfer of transfers) {
    if (owned.has(transfer.id) || transfer.touchedAt > clock.now() - youngMs) continue;
    await agent.send(`/v1/transfers/${transfer.id}`, { method: 'DELETE' });
    removed++;
  }
  return removed;
}

/** An upload's notes are its spec; a migration's hold one. */
function transferIdOf(notes: { spec?: unknown }): string | undefined {
  return transferSpecSchema.safeParse(notes.spec ?? notes).data?.id;
}
