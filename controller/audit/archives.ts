import { createPublicKey } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Logger } from 'pino';
import { clock, sleep } from '../../shared/util/clock.ts';
import { sha256Of, syncDirectory } from '../../shared/util/files.ts';
import type { Store } from '../store/store.ts';
import { Duty } from './duty.ts';
import {
  ChainCheck,
  type Checked,
  checkParts,
  checkpointText,
  type PartBegin,
  parseNote,
} from './stowage-verify.ts';
import type { AuditTrail } from './trail.ts';

const LOOK_MS = 60_000;
/** An archive is made when there is so much for it. */
const SPAN_MS = 24 * 3600_000;
/** The most records of an archive. */
const MOST_RECORDS = 200_000;
/** Dropped from the store at once: others get their turn between. */
const DROPPED = 2000;
const DIGITS = 12;
/** Writing a large archive takes its time, on a slow disk. */
const PATIENCE_MS = 600_000;

const numbered = (seq: number): string => String(seq).padStart(DIGITS, '0');
const UNFINISHED = 'unfinished.jsonl.gz';

export interface ArchiveOptions {
  /** Where archives go. */
  directory: string;
  /** Records stay in the store so long, ms. */
  keepMs: number;
}

interface Parts {
  store: Store;
  trail: AuditTrail;
  logger: Logger;
  /** Up to which record all have the trail that are to have it. */
  arrived: () => Promise<number>;
}

/** Undefined for what is no note: the trail tells of it when it is verified. */
function sizeOf(note: string): number | undefined {
  try {
    return parseNote(note).size;
  } catch {
    return undefined;
  }
}

/**
 * Moves records of a certain age out of the store, into archives that can be verified: `trail-FIRST-LAST.jsonl.gz`, exports of a part of the
 * trail each. A record leaves the store when an archive with it was read again and found whole, and that is on record. The
 * newest record stays, and those that have not arrived where the trail is forwarded and witnessed.
 */
export function archives(parts: Parts, { directory, keepMs }: ArchiveOptions): Duty {
  const { store, trail, logger, arrived } = parts;
  const duty: Duty = new Duty({ kind: 'trail-not-archived', place: directory }, logger, work);

  /** The chain from behind `base` to a record. Throws where it is not whole. */
  async function chainUpTo(end: number, base: PartBegin | undefined): Promise<ChainCheck> {
    const chain = new ChainCheck(base);
    for await (const row of trail.after(chain.seq, duty.signal)) {
      const wrong = chain.take(row);
      if (wrong) throw new Error(`nothing is archived: ${wrong.reason}`);
      if (chain.seq === end) break;
    }
    return chain;
  }

  /** Up to which record anything may be archived now. */
  async function limitOf(base: PartBegin | undefined): Promise<number> {
    const newest = (await store.audit.last())?.seq ?? 0;
    return Math.min(newest - 1, await arrived(), (base?.seq ?? 0) + MOST_RECORDS);
  }

  /** The chain up to the last record that goes into the next archive; undefined where there is not enough for one. */
  async function nextPart(base: PartBegin | undefined, limit: number): Promise<ChainCheck | undefined> {
    const now = clock.now();
    const cutoff = now - keepMs;
    let end = 0;
    let isDue: boolean | undefined;
    for await (const { seq, at } of trail.after(base?.seq ?? 0, duty.signal)) {
      if (seq > limit) break;
      // A time in the future, of a clock that was wrong or is, says nothing of how old a record is: it goes with the next that does.
      if (at > now) continue;
      isDue ??= at < cutoff - SPAN_MS;
      if (!isDue || at >= cutoff) break;
      end = seq;
    }
    return end === 0 ? undefined : chainUpTo(end, base);
  }

  /** The lines of an archive that begins behind `base` and ends with `end`. */
  async function* linesUpTo(end: PartBegin, base: PartBegin | undefined): AsyncGenerator<string> {
    if (base) yield `${JSON.stringify({ follows: base })}\n`;
    const from = base?.seq ?? 0;
    for (const note of await store.witnesses.notes()) {
      const size = sizeOf(note);
      if (size !== undefined && size > from && size <= end.seq)
        yield `${JSON.stringify({ witnessed: note })}\n`;
    }
    for await (const record of trail.after(from)) {
      yield `${JSON.stringify(record)}\n`;
      if (record.seq === end.seq) break;
    }
    const { seq, hash, signature } = end;
    yield `${JSON.stringify({ checkpoint: { seq, hash, signature } })}\n`;
  }

  /** An archive as it is on the disk. Throws where it is not whole. */
  async function checked(path: string): Promise<Checked> {
    const outcome = await checkParts([path], { keys: [createPublicKey(trail.publicKey)] });
    if ('reason' in outcome) throw new Error(`${path} is not whole: ${outcome.reason}`);
    return outcome;
  }

  /** The archive that begins with a record and is there already, as a kill has left it: up to which record it goes. */
  async function found(first: number, limit: number): Promise<{ name: string; last: number } | undefined> {
    const name = (await readdir(directory)).find((each) => each.startsWith(`trail-${numbered(first)}-`));
    if (name === undefined) return undefined;
    const { first: begin, last, hash } = await checked(join(directory, name));
    const [ours] = await trail.list(1, { after: last - 1 });
    if (begin !== first || ours?.seq !== last || ours.hash !== hash)
      throw new Error(`${join(directory, name)} is there, and is not of this trail`);
    if (last > limit)
      throw new Error(`${name} is there, and its records have not arrived yet where the trail goes`);
    return { name, last };
  }

  async function write(end: PartBegin, base: PartBegin | undefined, signal: AbortSignal): Promise<string> {
    const unfinished = join(directory, UNFINISHED);
    const target = createWriteStream(unfinished, { mode: 0o600, flush: true });
    await pipeline(Readable.from(linesUpTo(end, base)), createGzip(), target, { signal });
    await checked(unfinished);
    const name = `trail-${numbered((base?.seq ?? 0) + 1)}-${numbered(end.seq)}.jsonl.gz`;
    await rename(unfinished, join(directory, name));
    await syncDirectory(directory);
    return name;
  }

  async function archive(
    chain: ChainCheck,
    base: PartBegin | undefined,
    limit: number,
    signal: AbortSignal,
  ): Promise<void> {
    const made = await mkdir(directory, { recursive: true, mode: 0o700 });
    if (made !== undefined) await syncDirectory(dirname(made));
    const known = await found(chain.first, limit);
    // One that is there may end elsewhere, as it was made at another time.
    const part = known ? await chainUpTo(known.last, base) : chain;
    const end = endOf(part);
    const name = known?.name ?? (await write(end, base, signal));
    const digest = await sha256Of(join(directory, name));
    await store.transaction(async (transaction) => {
      await transaction.audit.moveBase(end);
      await trail.appendIn(transaction, {
        actor: 'controller',
        source: 'controller',
        action: 'audit.archive',
        target: 'audit',
        outcome: 'done',
        detail: `records ${chain.first} to ${end.seq} are in ${name}, SHA-256 ${digest}`,
      });
    });
  }

  function endOf(chain: ChainCheck): PartBegin {
    const { seq, hash } = chain;
    return chain.next(trail.sign(checkpointText({ seq, hash })).toString('base64'));
  }

  /** What is in an archive leaves the store. */
  async function drop(): Promise<void> {
    while ((await store.transaction(({ audit }) => audit.dropArchived(DROPPED))) > 0)
      await sleep(0, duty.signal);
  }

  async function work(): Promise<void> {
    for (;;) {
      await drop();
      const base = await store.audit.base();
      const limit = await limitOf(base);
      const chain = await nextPart(base, limit);
      if (chain) {
        await duty.call((signal) => archive(chain, base, limit, signal), PATIENCE_MS);
        continue;
      }
      duty.succeeded();
      await sleep(LOOK_MS, duty.signal);
    }
  }

  return duty;
}
