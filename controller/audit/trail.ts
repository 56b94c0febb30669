import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { join } from 'node:path';
import type { AuditRecord, AuditVerdict } from '../../shared/protocol/api.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { cut, StowageError } from '../../shared/util/errors.ts';
import { keptKey } from '../store/kept-file.ts';
import { AUDIT_KEY } from '../store/key-files.ts';
import type { AuditFilter } from '../store/repositories/audit.ts';
import type { Store, Transaction } from '../store/store.ts';
import {
  ChainCheck,
  checkpointText,
  GENESIS,
  hashOf,
  isSigned,
  type KnownWitnesses,
  type Note,
  type NoteKey,
  parseNote,
  type Wrong,
} from './stowage-verify.ts';

/** What goes on record. Secrets must not be in any of it. */
export type AuditEntry = Pick<AuditRecord, 'actor' | 'source' | 'action' | 'target' | 'outcome'> & {
  detail?: string;
};

/** What witnesses have signed: whose word counts, and what of it is not kept in the store. */
export interface Evidence {
  seen?: KnownWitnesses;
  /** Checkpoints of a file, which have the key of the trail itself. */
  file?: { key: NoteKey; notes: readonly Note[] };
}

const PAGE = 500;
const TRY_MS = 10_000;
const MALFORMED = 'what a witness has signed is not in the store as it was signed';
/** Longest text of a record: whoever is let in writes no book into the trail. */
const LONGEST_DETAIL = 2000;
const LONGEST_TARGET = 800;

/**
 * The audit trail: an append-only chain in which each record carries the hash of the one before. The newest record is
 * covered by a signed checkpoint, replaced in the same transaction; {@link verify} gives it out, to be kept elsewhere.
 * The key lies in a file of its own, apart from the store.
 */
export class AuditTrail {
  readonly #store: Store;
  readonly #key: KeyObject;
  /** Since when, when it was last tried, and why the last record could not be appended. */
  #standstill: { since: number; triedAt: number; why: string } | undefined;

  constructor(store: Store, dataDirectory: string) {
    this.#store = store;
    this.#key = keptKey(join(dataDirectory, AUDIT_KEY));
  }

  /** For those who verify an export: the public half of the signing key, PEM. */
  get publicKey(): string {
    return createPublicKey(this.#key).export({ type: 'spki', format: 'pem' }).toString();
  }

  /** Appends, durably. Throws `audit-unwritable`: the caller must then refuse what it was about to do. */
  async append(entry: AuditEntry): Promise<number> {
    try {
      const seq = await this.#store.transaction((transaction) => this.appendIn(transaction, entry));
      this.#standstill = undefined;
      return seq;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const now = clock.now();
      this.#standstill = { since: this.#standstill?.since ?? now, triedAt: now, why };
      throw new StowageError(
        'audit-unwritable',
        `the audit trail cannot be written, so nothing is changed: ${why}`,
        { cause: error },
      );
    }
  }

  /**
   * Why nothing can be put on record; undefined where it can, as the last one was. While nothing can, it is tried by this, at most every
   * ten seconds, and it is on record since when it could not.
   */
  async standstill(): Promise<string | undefined> {
    const last = this.#standstill;
    if (!last) return undefined;
    const { since, triedAt } = last;
    if (clock.now() - triedAt >= TRY_MS) {
      last.triedAt = clock.now();
      const entry = { actor: 'controller', source: 'controller', action: 'audit.resume', target: 'audit' };
      const detail = `nothing could be put on record since ${new Date(since).toISOString()}`;
      await this.append({ ...entry, outcome: 'done', detail }).catch(() => undefined);
    }
    return this.#standstill?.why;
  }

  /** Appends in a transaction: the record is there if, and only if, what else the transaction writes is. */
  async appendIn({ audit }: Transaction, entry: AuditEntry): Promise<number> {
    const last = await audit.last();
    const record = {
      seq: (last?.seq ?? 0) + 1,
      at: clock.now(),
      ...entry,
      target: cut(entry.target, LONGEST_TARGET),
      detail: cut(entry.detail ?? '', LONGEST_DETAIL),
      previous: last?.hash ?? GENESIS,
    };
    const hash = hashOf(record);
    await audit.insert({ ...record, hash });
    const signature = this.sign(checkpointText({ seq: record.seq, hash })).toString('base64');
    await audit.replaceCheckpoint({ seq: record.seq, hash, at: record.at, signature });
    return record.seq;
  }

  /** Whether the newest record is signed, with the key of the trail. True for a trail that has none yet. */
  async isHeadSigned(): Promise<boolean> {
    const { audit } = this.#store;
    const last = await audit.last();
    if (!last) return true;
    const head = (await audit.checkpoints()).at(-1);
    return head?.seq === last.seq && head.hash === last.hash && isSigned(head, [createPublicKey(this.#key)]);
  }

  /** Ed25519, with the key of the trail. */
  sign(text: Buffer): Buffer {
    return sign(null, text, this.#key);
  }

  /** The number of the newest record; 0 while there is none. */
  async lastSeq(): Promise<number> {
    return (await this.#store.audit.last())?.seq ?? 0;
  }

  /** Records that pass the filter, in order. */
  list(limit: number, filter: AuditFilter = {}): Promise<AuditRecord[]> {
    return this.#store.audit.list(limit, filter);
  }

  /**
   * Every record after one, in order, a page at a time, until it is to stop. Throws `audit-archived` where records that come next went into an archive
   * meanwhile.
   */
  async *after(seq: number, signal?: AbortSignal): AsyncGenerator<AuditRecord> {
    for (let last = seq; ; ) {
      const page = await this.list(PAGE, { after: last });
      if (page[0]?.seq !== last + 1 && ((await this.#store.audit.base())?.seq ?? 0) > last)
        throw new StowageError('audit-archived', 'records were archived while they were read; try again');
      yield* page;
      if (page.length < PAGE) return;
      // Others have their turn between two pages: SQLite answers at once.
      await sleep(0, signal);
      last = page.at(-1)!.seq;
    }
  }

  /**
   * Records as JSON, in order, from the first that is in no archive to that which is the newest when this begins; before them what they
   * follow on and what witnesses have signed, and behind them the checkpoint of the last one: by it an export that was cut shows.
   */
  async *export(): AsyncGenerator<string> {
    const { audit, witnesses } = this.#store;
    // Read before the end, so that no note is newer than the end.
    const notes = await witnesses.notes();
    const checkpoint = (await audit.checkpoints()).at(-1);
    if (!checkpoint) return;
    const base = await audit.base();
    if (base) yield JSON.stringify({ follows: base });
    for (const note of notes) yield JSON.stringify({ witnessed: note });
    for await (const record of this.after(base?.seq ?? 0)) {
      if (record.seq > checkpoint.seq) break;
      yield JSON.stringify(record);
    }
    yield JSON.stringify({ checkpoint });
  }

  /**
   * Walks the chain, from behind what is in archives, up to the signed record that was the newest when this began; names the first one that
   * was changed, removed, added or moved, or that a witness has seen otherwise. What is appended meanwhile is not looked at, but it must be
   * there to stand behind. Throws `audit-archived` where records were archived meanwhile.
   */
  async verify({ seen, file }: Evidence = {}): Promise<AuditVerdict> {
    const { audit } = this.#store;
    // Read before the end, so that no note is newer than the end.
    const stored = await this.#store.witnesses.notes();
    const base = await audit.base();
    const head = (await audit.checkpoints()).at(-1);
    const keys = [createPublicKey(this.#key)];
    const chain = new ChainCheck(base, seen);
    const verdict = () => {
      const { first, seq, seen } = chain;
      const records = seq - first + 1;
      return { records, first, head, witnessed: [...seen.values()], publicKey: this.publicKey };
    };
    const bad = (wrong: Wrong): AuditVerdict => ({ ...verdict(), ok: false, ...wrong });
    if (base && !isSigned(base, keys))
      return bad({ badSeq: chain.first, reason: 'that those before are in archives is not signed' });
    for (const [index, given] of [...stored, ...(file?.notes ?? [])].entries()) {
      const isStored = typeof given === 'string';
      const note = isStored ? noteIn(given) : given;
      const keys = isStored || !file ? undefined : [file.key];
      const wrong = note ? chain.witnessed(note, keys) : { badSeq: chain.first, reason: MALFORMED };
      if (wrong) return bad(wrong);
      if (index % PAGE === PAGE - 1) await sleep(0);
    }
    for await (const row of this.after(chain.seq)) {
      if (head !== undefined && row.seq > head.seq) break;
      const wrong = chain.take(row) ?? (row.seq === head?.seq ? chain.end(head, keys) : undefined);
      if (wrong) return bad(wrong);
    }
    const last = chain.seq;
    if (head !== undefined && last < head.seq)
      return bad({
        badSeq: last + 1,
        reason: `the records after ${last} are missing; there were ${head.seq} or more`,
      });
    const cut = chain.cut();
    // Where they part is not known: what came after an older backup may be behind it already.
    if (cut) return { ...verdict(), ok: false, reason: cut.reason };
    // Records behind the head are those of others that write now: then there is a newer head as well.
    const newest = await audit.last();
    const newer = (await audit.checkpoints()).at(-1);
    if (newest !== undefined && (newer === undefined || newer.seq < newest.seq))
      return bad({ badSeq: newest.seq, reason: 'the newest record has no signed checkpoint' });
    return { ...verdict(), ok: true };
  }
}

function noteIn(text: string): Note | undefined {
  try {
    return parseNote(text);
  } catch {
    return undefined;
  }
}
