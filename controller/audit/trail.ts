import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Store } from '../store/open.ts';
import type { AuditRow, CheckpointRow } from '../store/schema.ts';

/** Which records are asked for. */
export interface AuditFilter {
  /** The number of a record. */
  after?: number;
  /** Ms since the epoch. */
  since?: number;
  actor?: string;
  /** What was done to a host, its pools and volumes. */
  host?: string;
}

/** Who did what, from where, on what, and how it ended. Secrets must not be in any of it. */
export interface AuditEntry {
  actor: string;
  /** Address the request came from, or `controller`. */
  source: string;
  /** `noun.verb`, such as `volume.delete`. */
  action: string;
  /** `host/pool/volume` or as much of it as there is. */
  target: string;
  /** `begun`, `done`, `failed` or `refused`. */
  outcome: 'begun' | 'done' | 'failed' | 'refused';
  detail?: string;
}

const GENESIS = '0'.repeat(64);
const PAGE = 1000;

/** Fields in a fixed order, so that a record has one hash and no other record has the same text. */
function hashOf(row: Omit<AuditRow, 'hash'>): string {
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

export interface Verdict {
  ok: boolean;
  records: number;
  /** The signed head of the chain: whoever keeps one can later prove that nothing before it was changed or cut. */
  head?: CheckpointRow;
  /** The first record that is wrong. */
  badSeq?: number;
  reason?: string;
}

/**
 * The audit trail: an append-only chain in which each record carries the hash of the one before. The newest record is
 * covered by a signed checkpoint, replaced in the same transaction; {@link verify} gives it out, to be kept elsewhere.
 * The key lies in a file of its own, apart from the store.
 */
export class AuditTrail {
  readonly #store: Store;
  readonly #key: KeyObject;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(store: Store, dataDirectory: string) {
    this.#store = store;
    const path = join(dataDirectory, 'audit-key.pem');
    if (!existsSync(path)) {
      const { privateKey } = generateKeyPairSync('ed25519');
      writeFileSync(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600, flag: 'wx' });
    }
    this.#key = createPrivateKey(readFileSync(path));
  }

  /** For those who verify an export: the public half of the signing key, PEM. */
  get publicKey(): string {
    return createPublicKey(this.#key).export({ type: 'spki', format: 'pem' }).toString();
  }

  /** Appends, durably. Throws `audit-unwritable`: the caller must then refuse what it was about to do. */
  append(entry: AuditEntry): Promise<number> {
    const appended = this.#queue.then(() => this.#append(entry));
    this.#queue = appended.catch(() => undefined);
    return appended;
  }

  async #append(entry: AuditEntry): Promise<number> {
    try {
      return await this.#store.transaction().execute(async (store) => {
        const last = await store
          .selectFrom('audit')
          .select(['seq', 'hash'])
          .orderBy('seq', 'desc')
          .limit(1)
          .executeTakeFirst();
        const row = {
          seq: (last?.seq ?? 0) + 1,
          at: clock.now(),
          ...entry,
          detail: entry.detail ?? '',
          previous: last?.hash ?? GENESIS,
        };
        const hash = hashOf(row);
        await store
          .insertInto('audit')
          .values({ ...row, hash })
          .execute();
        const signature = sign(null, checkpointText(row.seq, hash), this.#key).toString('base64');
        // Older ones go: with one of them left, the records after it could be cut off unseen.
        await store.deleteFrom('audit_checkpoints').execute();
        await store
          .insertInto('audit_checkpoints')
          .values({ seq: row.seq, hash, at: row.at, signature })
          .execute();
        return row.seq;
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new StowageError(
        'audit-unwritable',
        `the audit trail cannot be written, so nothing is changed: ${why}`,
        { cause: error },
      );
    }
  }

  /** Records that pass the filter, in order: those after a number, else the newest. */
  async list(limit: number, { after, since, actor, host }: AuditFilter = {}): Promise<AuditRow[]> {
    let query = this.#store.selectFrom('audit').selectAll().limit(limit);
    if (since !== undefined) query = query.where('at', '>=', since);
    if (actor !== undefined) query = query.where('actor', '=', actor);
    if (host !== undefined)
      query = query.where(({ eb, or }) =>
        // '0' is what comes behind '/'.
        or([eb('target', '=', host), eb.and([eb('target', '>', `${host}/`), eb('target', '<', `${host}0`)])]),
      );
    if (after !== undefined) return query.where('seq', '>', after).orderBy('seq').execute();
    return (await query.orderBy('seq', 'desc').execute()).reverse();
  }

  /** Every record, in order, a page at a time. */
  async *all(): AsyncGenerator<AuditRow> {
    for (let after = 0; ; ) {
      const page = await this.list(PAGE, { after });
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)!.seq;
    }
  }

  /** Walks the whole chain and every checkpoint; names the first record that was changed, removed, added or moved. */
  async verify(): Promise<Verdict> {
    const checkpoints = await this.#store
      .selectFrom('audit_checkpoints')
      .selectAll()
      .orderBy('seq')
      .execute();
    const publicKey = createPublicKey(this.#key);
    const pending = new Map(checkpoints.map((checkpoint) => [checkpoint.seq, checkpoint]));
    const verdict: Omit<Verdict, 'ok'> & { records: number } = { records: 0, head: checkpoints.at(-1) };
    let previous = GENESIS;
    for await (const row of this.all()) {
      const expected = verdict.records + 1;
      if (row.seq !== expected)
        return { ...verdict, ok: false, badSeq: expected, reason: `record ${expected} is missing` };
      if (row.previous !== previous)
        return {
          ...verdict,
          ok: false,
          badSeq: row.seq,
          reason: `record ${row.seq} does not follow on the one before it`,
        };
      if (hashOf(row) !== row.hash)
        return {
          ...verdict,
          ok: false,
          badSeq: row.seq,
          reason: `record ${row.seq} was changed after it was written`,
        };
      const wrong = badCheckpoint(pending.get(row.seq), row, publicKey);
      if (wrong) return { ...verdict, ok: false, badSeq: row.seq, reason: wrong };
      pending.delete(row.seq);
      previous = row.hash;
      verdict.records++;
    }
    const [missing] = pending.keys();
    if (missing !== undefined)
      return {
        ...verdict,
        ok: false,
        badSeq: verdict.records + 1,
        reason: `the records after ${verdict.records} are missing; there were ${missing} or more`,
      };
    if (verdict.records > 0 && checkpoints.at(-1)?.seq !== verdict.records) {
      return {
        ...verdict,
        ok: false,
        badSeq: verdict.records,
        reason: 'the newest record has no signed checkpoint',
      };
    }
    return { ...verdict, ok: true };
  }
}

function badCheckpoint(
  checkpoint: CheckpointRow | undefined,
  row: AuditRow,
  publicKey: KeyObject,
): string | undefined {
  if (!checkpoint) return undefined;
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
