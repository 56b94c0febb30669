import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { join } from 'node:path';
import type { AuditRecord, AuditVerdict } from '../../shared/protocol/api.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { cut, StowageError } from '../../shared/util/errors.ts';
import { keptKey } from '../store/kept-file.ts';
import type { AuditFilter } from '../store/repositories/audit.ts';
import type { Store, Transaction } from '../store/store.ts';
import { ChainCheck, checkpointText, GENESIS, hashOf, type Wrong } from './stowage-verify.ts';

/** What goes on record. Secrets must not be in any of it. */
export type AuditEntry = Pick<AuditRecord, 'actor' | 'source' | 'action' | 'target' | 'outcome'> & {
  detail?: string;
};

const PAGE = 500;
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

  constructor(store: Store, dataDirectory: string) {
    this.#store = store;
    this.#key = keptKey(join(dataDirectory, 'audit-key.pem'));
  }

  /** For those who verify an export: the public half of the signing key, PEM. */
  get publicKey(): string {
    return createPublicKey(this.#key).export({ type: 'spki', format: 'pem' }).toString();
  }

  /** Appends, durably. Throws `audit-unwritable`: the caller must then refuse what it was about to do. */
  async append(entry: AuditEntry): Promise<number> {
    try {
      return await this.#store.transaction((transaction) => this.appendIn(transaction, entry));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new StowageError(
        'audit-unwritable',
        `the audit trail cannot be written, so nothing is changed: ${why}`,
        { cause: error },
      );
    }
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
    const signature = sign(null, checkpointText({ seq: record.seq, hash }), this.#key).toString('base64');
    await audit.replaceCheckpoint({ seq: record.seq, hash, at: record.at, signature });
    return record.seq;
  }

  /** Records that pass the filter, in order. */
  list(limit: number, filter: AuditFilter = {}): Promise<AuditRecord[]> {
    return this.#store.audit.list(limit, filter);
  }

  /** Every record, in order, a page at a time. */
  async *all(): AsyncGenerator<AuditRecord> {
    for (let after = 0; ; ) {
      const page = await this.list(PAGE, { after });
      yield* page;
      if (page.length < PAGE) return;
      // Others have their turn between two pages: SQLite answers at once.
      await sleep(0);
      after = page.at(-1)!.seq;
    }
  }

  /**
   * The records up to that which is the newest when this begins, as JSON, in order, and behind them the checkpoint of that one: by it an
   * export that was cut shows.
   */
  async *export(): AsyncGenerator<string> {
    const checkpoint = (await this.#store.audit.checkpoints()).at(-1);
    if (!checkpoint) return;
    for await (const record of this.all()) {
      if (record.seq > checkpoint.seq) break;
      yield JSON.stringify(record);
    }
    yield JSON.stringify({ checkpoint });
  }

  /**
   * Walks the chain up to the signed record that was the newest when this began; names the first one that was changed, removed,
   * added or moved. What is appended meanwhile is not looked at, but it must be there to stand behind.
   */
  async verify(): Promise<AuditVerdict> {
    const checkpoints = await this.#store.audit.checkpoints();
    const head = checkpoints.at(-1);
    const key = createPublicKey(this.#key);
    const chain = new ChainCheck();
    const verdict = () => ({ records: chain.records, head, publicKey: this.publicKey });
    const bad = (wrong: Wrong): AuditVerdict => ({ ...verdict(), ok: false, ...wrong });
    for await (const row of this.all()) {
      if (head !== undefined && row.seq > head.seq) break;
      const wrong = chain.take(row) ?? (row.seq === head?.seq ? chain.end(head, [key]) : undefined);
      if (wrong) return bad(wrong);
    }
    const { records } = chain;
    if (head !== undefined && records < head.seq)
      return bad({
        badSeq: records + 1,
        reason: `the records after ${records} are missing; there were ${head.seq} or more`,
      });
    // Records behind the head are those of others that write now: then there is a newer head as well.
    const last = await this.#store.audit.last();
    const newer = (await this.#store.audit.checkpoints()).at(-1);
    if (last !== undefined && (newer === undefined || newer.seq < last.seq))
      return bad({ badSeq: last.seq, reason: 'the newest record has no signed checkpoint' });
    return { ...verdict(), ok: true };
  }
}
