#!/usr/bin/env node

// Checks an export of the audit trail by itself, on any machine with Node 24: node stowage-verify.ts EXPORT KEY.pem…
// It needs nothing but this file, what `stowage audit export` wrote, and the public keys of the controller (`publicKey` of
// `stowage audit verify --json`, kept since before whoever may have changed the trail could change it). Exit status: 0 the trail is
// whole, 1 it is not, 2 it could not be checked.
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** A record of the trail. `previous` is the hash of the one before. */
export interface ChainRecord {
  /** From 1 on, without a gap. */
  seq: number;
  /** Ms since the epoch. */
  at: number;
  actor: string;
  source: string;
  action: string;
  target: string;
  outcome: string;
  detail: string;
  previous: string;
  hash: string;
}

/** Signed: the trail had this record at its end. */
export interface Checkpoint {
  seq: number;
  hash: string;
  /** Ed25519, base64. */
  signature: string;
}

/** What the first record follows on. */
export const GENESIS = '0'.repeat(64);

/** Fields in a fixed order, so that a record has one hash and no other record has the same text. */
export function hashOf(row: Omit<ChainRecord, 'hash'>): string {
  const { seq, at, actor, source, action, target, outcome, detail, previous } = row;
  const fields = [seq, at, actor, source, action, target, outcome, detail, previous];
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

export const checkpointText = ({ seq, hash }: Pick<Checkpoint, 'seq' | 'hash'>): Buffer =>
  Buffer.from(`stowage-audit-v1:${seq}:${hash}`);

export interface Wrong {
  /** The first record that is not what it was. */
  badSeq: number;
  reason: string;
}

/** Walks along the chain from its beginning. */
export class ChainCheck {
  records = 0;
  #previous = GENESIS;

  /** The next record; what is wrong with it, if anything is. */
  take(row: ChainRecord): Wrong | undefined {
    const expected = this.records + 1;
    if (row.seq !== expected) return { badSeq: expected, reason: `record ${expected} is missing` };
    if (row.previous !== this.#previous)
      return { badSeq: row.seq, reason: `record ${row.seq} does not follow on the one before it` };
    if (hashOf(row) !== row.hash)
      return { badSeq: row.seq, reason: `record ${row.seq} was changed after it was written` };
    this.#previous = row.hash;
    this.records++;
    return undefined;
  }

  /** What is wrong with a checkpoint of the record that was taken last. */
  end(checkpoint: Checkpoint, keys: readonly KeyObject[]): Wrong | undefined {
    const { seq, hash, signature } = checkpoint;
    const bad = (reason: string): Wrong => ({ badSeq: seq, reason });
    const [text, bytes] = [checkpointText(checkpoint), Buffer.from(signature, 'base64')];
    if (!keys.some((key) => verify(null, text, key, bytes)))
      return bad(`the checkpoint of record ${seq} is not signed by this controller`);
    if (seq !== this.records || hash !== this.#previous)
      return bad(`record ${seq} is not the one that was signed`);
    return undefined;
  }
}

/** Checks the lines of an export: records, and the checkpoint of the last one. */
export async function checkExport(
  lines: AsyncIterable<string>,
  keys: readonly KeyObject[],
): Promise<{ records: number; hash: string } | Wrong> {
  const chain = new ChainCheck();
  let end: Checkpoint | undefined;
  for await (const line of lines) {
    if (line === '') continue;
    const next = chain.records + 1;
    if (end) return { badSeq: next, reason: 'there is more behind the signed end' };
    try {
      const row: ChainRecord | { checkpoint: Checkpoint } = JSON.parse(line);
      if ('checkpoint' in row) end = row.checkpoint;
      const wrong = 'checkpoint' in row ? chain.end(row.checkpoint, keys) : chain.take(row);
      if (wrong) return wrong;
    } catch {
      // No JSON, or none of a record: whoever changed it may have written anything.
      return { badSeq: next, reason: `where record ${next} should be there is none` };
    }
  }
  if (!end) return { badSeq: chain.records + 1, reason: 'its signed end is missing: it was cut' };
  return { records: chain.records, hash: end.hash };
}

function publicKeyIn(file: string): KeyObject {
  const text = readFileSync(file);
  try {
    return createPublicKey(text);
  } catch {
    throw new Error(`there is no public key, PEM, in ${file}`);
  }
}

async function main([path, ...keyFiles]: string[]): Promise<number> {
  if (path === undefined || keyFiles.length === 0) {
    console.error('usage: stowage-verify EXPORT KEY.pem [KEY.pem ...]');
    return 2;
  }
  const keys = keyFiles.map(publicKeyIn);
  const outcome = await checkExport(createInterface({ input: createReadStream(path) }), keys);
  if ('reason' in outcome) {
    console.log(`THE TRAIL WAS TAMPERED WITH at record ${outcome.badSeq}: ${outcome.reason}`);
    return 1;
  }
  console.log(`the trail is whole: ${outcome.records} records, signed up to ${outcome.hash.slice(0, 16)}`);
  return 0;
}

if (import.meta.main)
  main(process.argv.slice(2)).then(
    (status) => {
      process.exitCode = status;
    },
    (error: Error) => {
      console.error(`stowage-verify: ${error.message}`);
      process.exitCode = 2;
    },
  );
