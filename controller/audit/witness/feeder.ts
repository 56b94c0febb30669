import type { Logger } from 'pino';
import { clock, sleep } from '../../../shared/util/clock.ts';
import type { Store } from '../../store/store.ts';
import { Dispute, Duty } from '../duty.ts';
import { Frontier, GENESIS, leafOf } from '../stowage-verify.ts';
import type { AuditTrail } from '../trail.ts';
import type { WitnessedLog } from './log.ts';
import { consistencyProof } from './proof.ts';
import { inconsistent, otherRoot, type Witness } from './witness.ts';

const FIRST_LOOK_MS = 1000;
/** Where there are none it signs again that there are none. */
const AGAIN_MS = 3600_000;
/** So many records at most are shown at once to one that has seen some: their hashes are in memory meanwhile. */
const MOST_LEAVES = 65_536;
/** So often a witness may say, one time after the other, that it has seen something else than it said. */
const MOST_CORRECTIONS = 2;

interface Parts {
  store: Store;
  trail: AuditTrail;
  log: WitnessedLog;
  logger: Logger;
}

/** Up to where a witness has seen the trail. `end` is that record; where it has seen nothing, the one before the first in the store. */
interface Position {
  old: number;
  end: TrailEnd;
  /** When it has signed that, ms since the epoch. */
  at: number;
}

/** A record, and the tree up to it. */
interface TrailEnd {
  hash: string;
  tree: Frontier;
}

/**
 * Shows the trail to a witness as it grows, and keeps what the witness signs. A witness that has seen another trail, or more of it, is told as
 * a dispute.
 */
export function feeder(parts: Parts, witness: Witness): Duty {
  const { store, trail, log, logger } = parts;
  const { name, lookMs } = witness;
  const duty: Duty = new Duty({ kind: 'trail-not-witnessed', place: name }, logger, follow);
  const newest = async (): Promise<number> => (await store.audit.last())?.seq ?? 0;

  /** Where the trail begins here. */
  async function beginning(): Promise<TrailEnd> {
    const base = await store.audit.base();
    return { hash: base?.hash ?? GENESIS, tree: new Frontier(base?.seq, base?.frontier) };
  }

  async function known(): Promise<Position> {
    const record = await store.witnesses.find(name);
    const begin = await beginning();
    // What it has seen by our record may be in archives by now: then it says itself what it has seen.
    if (!record || record.seq < begin.tree.size) return { old: 0, end: begin, at: 0 };
    const { seq, hash, frontier } = record;
    // It is shown again at the start, whatever it has signed: since then an older store may have been restored.
    return { old: seq, end: { hash, tree: new Frontier(seq, frontier) }, at: 0 };
  }

  /** What is to be shown of one that says that it has seen so much. */
  async function seenBy(seq: number): Promise<Position> {
    const begin = await beginning();
    if (seq === 0) return { old: 0, end: begin, at: 0 };
    checkIsThere(seq, await newest());
    if (seq < begin.tree.size)
      throw new Error(`it has seen ${seq} records, and the next are in archives: it must forget this trail`);
    return { old: seq, end: await grown(begin, seq), at: 0 };
  }

  function checkIsThere(seq: number, count: number): void {
    if (seq > count)
      throw new Dispute(
        `it has seen ${seq} records, and there are ${count}: records were cut off here, or an older backup was restored`,
      );
  }

  /** What a part of the trail is with the records up to one. Gives their leaves where they are asked for. */
  async function grown(from: TrailEnd, last: number, leaves?: Buffer[]): Promise<TrailEnd> {
    const tree = from.tree.copy();
    if (tree.size === last) {
      await checkIsNow(from);
      return from;
    }
    let { hash } = from;
    for await (const record of trail.after(tree.size, duty.signal)) {
      if (record.previous !== hash) throw inconsistent(tree.size);
      hash = record.hash;
      const leaf = leafOf(hash);
      tree.append(leaf);
      leaves?.push(leaf);
      if (tree.size === last) return { hash, tree };
    }
    throw new Dispute(`record ${tree.size + 1} is missing here`);
  }

  /** Where there is nothing new, the last record must be what it was. */
  async function checkIsNow({ hash, tree }: TrailEnd): Promise<void> {
    const [record] = tree.size === 0 ? [] : await trail.list(1, { after: tree.size - 1 });
    if (record?.seq === tree.size && record.hash !== hash) throw otherRoot(tree.size);
  }

  /** Shows what comes next after a position. Gives where it is then. */
  async function show(from: Position): Promise<Position> {
    let position = from;
    for (let corrections = 0; ; corrections++) {
      const { old } = position;
      const count = await newest();
      checkIsThere(old, count);
      const last = old === 0 ? count : Math.min(count, old + MOST_LEAVES);
      const leaves: Buffer[] = [];
      const end = await grown(position.end, last, old === 0 ? undefined : leaves);
      const note = log.checkpoint(end.tree);
      const proof = leaves.length === 0 ? [] : consistencyProof(position.end.tree, leaves);
      const answer = await duty.call((signal) => witness.show(old, proof, note, signal));
      if ('seq' in answer) {
        if (corrections === MOST_CORRECTIONS)
          throw new Dispute('it says each time that it has seen something else');
        if (answer.seq < old)
          logger.warn({ witness: name, seq: answer.seq, old }, 'a witness has forgotten what it has signed');
        position = await seenBy(answer.seq);
        continue;
      }
      const { at, signatures } = answer;
      const { hash, tree } = end;
      const record = { name, seq: tree.size, hash, frontier: tree.texts, at };
      const signed = signatures === '' ? undefined : note + signatures;
      await store.transaction(({ witnesses }) => witnesses.note(record, signed));
      return { old: tree.size, end, at };
    }
  }

  async function follow(): Promise<void> {
    let position = await known();
    for (;;) {
      const count = await newest();
      const isDue = count !== position.old || clock.now() - position.at > AGAIN_MS;
      if (count > 0 && isDue) position = await show(position);
      if (position.old < count) continue;
      duty.succeeded();
      // A controller that is new begins its trail in this moment.
      await sleep(count === 0 ? Math.min(lookMs, FIRST_LOOK_MS) : lookMs, duty.signal);
    }
  }

  return duty;
}
