import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { join } from 'node:path';
import type { AuditCheckpoint, AuditRecord, AuditVerdict } from '../../shared/protocol/api.ts';
import { clock, sleep } from '../../shared/util/clock.ts';
import { cut, StowageError } from '../../shared/util/errors.ts';
import { keptKey } from '../store/kept-file.ts';
import type { AuditFilter } from '../store/repositories/audit.ts';
import type { Store, Transaction } from '../store/store.ts';

/** What goes on record. Secrets must not be in any of it. */
export type AuditEntry = Pick<AuditRecord, 'actor' | 'source' | 'action' | 'target' | 'outcome'> & {
  detail?: string;
};

const GENESIS = '0'.repeat(64);
const PAGE = 500;
/** Longest text of a record: whoever is let in writes no book into the trail. */
const LONGEST_DETAIL = 2000;
const LONGEST_TARGET = 800;

/** Fields in a fixed order, so that a record has one hash and no other record has the same text. */
function hashOf(row: Omit<AuditRecord, 'hash'>): string {
  const fields = [
    row.seq,
    row.at,
    row.actor,
    row.source,
    row.action,
    row.target,
    row.outcome,
    row.detail,
    row.previous,
  ];
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

const checkpointText = (seq: number, hash: string): Buffer => Buffer.from(`stowage-audit-v1:${seq}:${hash}`);

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
    const signature = sign(null, checkpointText(record.seq, hash), this.#key).toString('base64');
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
   * Walks the chain up to the signed record that was the newest when this began; names the first one that was changed, removed,
   * added or moved. What is appended meanwhile is not looked at, but it must be there to stand behind.
   */
  async verify(): Promise<AuditVerdict> {
    const checkpoints = await this.#store.audit.checkpoints();
    const head = checkpoints.at(-1);
    const publicKey = createPublicKey(this.#key);
    const verdict = { records: 0, head, publicKey: this.publicKey };
    const bad = (badSeq: number, reason: string): AuditVerdict => ({ ...verdict, ok: false, badSeq, reason });
    let previous = GENESIS;
    for await (const row of this.all()) {
      if (head !== undefined && row.seq > head.seq) break;
      const expected = verdict.records + 1;
      if (row.seq !== expected) return bad(expected, `record ${expected} is missing`);
      if (row.previous !== previous)
        return bad(row.seq, `record ${row.seq} does not follow on the one before it`);
      if (hashOf(row) !== row.hash) return bad(row.seq, `record ${row.seq} was changed after it was written`);
      const wrong = row.seq === head?.seq ? badCheckpoint(head, row, publicKey) : undefined;
      if (wrong) return bad(row.seq, wrong);
      previous = row.hash;
      verdict.records++;
    }
    if (head !== undefined && verdict.records < head.seq)
      return bad(
        verdict.records + 1,
        `the records after ${verdict.records} are missing; there were ${head.seq} or more`,
      );
    // Records behind the head are those of others that write now: then there is a newer head as well.
    const last = await this.#store.audit.last();
    const newer = (await this.#store.audit.checkpoints()).at(-1);
    if (last !== undefined && (newer === undefined || newer.seq < last.seq))
      return bad(last.seq, 'the newest record has no signed checkpoint');
    return { ...verdict, ok: true };
  }
}

function badCheckpoint(
  checkpoint: AuditCheckpoint,
  row: AuditRecord,
  publicKey: KeyObject,
): string | undefined {
  if (
    !verify(
      null,
      checkpointText(checkpoint.seq, checkpoint.hash),
      publicKey,
      Buffer.from(checkpoint.signature, 'base64'),
    )
  ) {
    return `the checkpoint of record ${row.seq} is not signed by this controller`;
  }
  if (checkpoint.hash !== row.hash) return `record ${row.seq} is not the one that was signed`;
  return undefined;
}
