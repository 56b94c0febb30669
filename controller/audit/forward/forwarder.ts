import type { Logger } from 'pino';
import { clock, sleep } from '../../../shared/util/clock.ts';
import type { Store } from '../../store/store.ts';
import { Duty } from '../duty.ts';
import type { AuditTrail } from '../trail.ts';
import type { Destination } from './destination.ts';

/** New records are looked for so often. */
const LOOK_MS = 1000;
const PAGE = 500;
/** After so many pages it is asked whether all is there. */
const MOST_PAGES = 20;

interface Parts {
  store: Store;
  trail: AuditTrail;
  logger: Logger;
}

const inArchive = (seq: number): Error =>
  new Error(`record ${seq} is in an archive only: bring it there from that, or take another place`);

/**
 * Sends the whole trail to a destination, in order, from its first record on (to a new one from the first that is in no archive), and goes on
 * where it was whenever the controller was killed.
 * Each record arrives; what had not been confirmed when a connection broke, or the controller was killed, arrives again. A destination
 * that does not answer is tried again and again, one call at a time, and holds up nothing.
 */
export function forwarder(parts: Parts, destination: Destination): Duty {
  const { store, trail, logger } = parts;
  const { name } = destination;
  const duty: Duty = new Duty({ kind: 'trail-not-forwarded', place: name }, logger, follow, () =>
    destination.close(),
  );

  /** Up to where the destination has the trail. Throws where what it has is not of this trail. */
  async function begin(noted: number): Promise<number> {
    const last = await duty.call((signal) => destination.last(signal));
    const base = await store.audit.base();
    // A new one gets what is in the store.
    if (!last) return noted === 0 ? (base?.seq ?? 0) : noted;
    if (base && last.seq < base.seq) throw inArchive(last.seq + 1);
    const [ours] = last.seq === base?.seq ? [base] : await trail.list(1, { after: last.seq - 1 });
    if (ours?.seq !== last.seq || ours.hash !== last.hash)
      throw new Error(`record ${last.seq} there is none of this trail; give it another place`);
    return last.seq;
  }

  /** False where it cannot be noted, such as on a full disk: that is no matter of the destination, and is tried again. */
  async function note(seq: number): Promise<boolean> {
    try {
      await store.transaction(({ forwarding }) => forwarding.note(name, seq));
      return true;
    } catch (error) {
      logger.warn({ error, destination: name }, 'it cannot be noted how far the trail was forwarded');
      return false;
    }
  }

  /** Sends what there is and what comes, until something fails. */
  async function follow(): Promise<void> {
    let noted = await store.forwarding.position(name);
    let certain = await begin(noted);
    let sent = certain;
    let pages = 0;
    let gatheringSince = 0;
    for (;;) {
      const records = await trail.list(PAGE, { after: sent });
      const isAll = records.length < PAGE;
      if (records.length > 0) {
        if (records[0]!.seq !== sent + 1) throw inArchive(sent + 1);
        if (sent === certain) gatheringSince = clock.monotonicMs();
        await duty.call((signal) => destination.take(records, signal));
        sent = records.at(-1)!.seq;
        pages++;
      }
      const isDue = isAll && clock.monotonicMs() - gatheringSince >= destination.gatherMs;
      if (sent !== certain && (isDue || pages >= MOST_PAGES)) {
        await duty.call((signal) => destination.confirm(signal));
        certain = sent;
        pages = 0;
      }
      if (certain !== noted && (await note(certain))) noted = certain;
      if (sent === certain) duty.succeeded();
      if (isAll) await sleep(LOOK_MS, duty.signal);
    }
  }

  return duty;
}
