import { splitReference } from '../../../shared/util/references.ts';
import type { JobContext } from '../job.ts';

/**
 * The id of the volume that a job is about, as the inventory had it when the job first asked: also a run after a kill, or one that a frozen
 * host takes up late, changes no other volume of its name. undefined where the inventory did not know it.
 */
export async function volumeIdOf(
  context: Pick<JobContext<object, { volumeId: string }>, 'notes' | 'inventory' | 'save'>,
  reference: string,
): Promise<string | undefined> {
  if (context.notes.volumeId === undefined) {
    const [host = '', pool = '', volume = ''] = splitReference(reference);
    context.notes.volumeId = (await context.inventory.find({ host, pool, volume }))?.id;
    await context.save();
  }
  return context.notes.volumeId;
}
