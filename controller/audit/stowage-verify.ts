#!/usr/bin/env node

// Checks the audit trail by itself, on any machine with Node 24: node stowage-verify.ts [ARCHIVE …] EXPORT KEY.pem…
// It needs nothing but this file, what `stowage audit export` and the archives of the trail have, and the public keys of the controller
// (`publicKey` of `stowage audit verify --json`, kept since before whoever may have changed the trail could change it). Exit status: 0 the
// trail is whole, 1 it is not, 2 it could not be checked. All of the format is in this one file, so that auditors copy one; the controller uses
// it from here.
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { closeSync, createReadStream, openSync, readFileSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { parseArgs } from 'node:util';
import { createGunzip } from 'node:zlib';

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

/** Where a part of the trail begins: behind a signed record. `frontier`: of the Merkle tree up to there, hashes in base64. */
export interface PartBegin extends Checkpoint {
  frontier: string[];
}

/** A line of an export or an archive: what it follows on, records and what witnesses have signed, and the checkpoint of its last record. */
type Line = ChainRecord | { follows: PartBegin } | { witnessed: string } | { checkpoint: Checkpoint };

/** What the first record follows on. */
export const GENESIS = '0'.repeat(64);

const sha256 = (...pieces: (string | Buffer)[]): Buffer => {
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  return hash.digest();
};

/** Fields in a fixed order, so that a record has one hash and no other record has the same text. */
export function hashOf(row: Omit<ChainRecord, 'hash'>): string {
  const { seq, at, actor, source, action, target, outcome, detail, previous } = row;
  const fields = [seq, at, actor, source, action, target, outcome, detail, previous];
  return sha256(JSON.stringify(fields)).toString('hex');
}

export const checkpointText = ({ seq, hash }: Pick<Checkpoint, 'seq' | 'hash'>): Buffer =>
  Buffer.from(`stowage-audit-v1:${seq}:${hash}`);

export function isSigned(checkpoint: Checkpoint, keys: readonly KeyObject[]): boolean {
  const [text, bytes] = [checkpointText(checkpoint), Buffer.from(checkpoint.signature, 'base64')];
  return keys.some((key) => verify(null, text, key, bytes));
}

// The Merkle tree of RFC 6962, whose leaves are the hashes of the records: what witnesses look at.

export const leafOf = (hash: string): Buffer => sha256(Buffer.of(0), Buffer.from(hash, 'hex'));
export const parentOf = (left: Buffer, right: Buffer): Buffer => sha256(Buffer.of(1), left, right);

/** What of a Merkle tree is needed to add to it: the roots of its largest whole subtrees, from left to right. */
export class Frontier {
  size: number;
  readonly nodes: Buffer[];

  constructor(size = 0, nodes: readonly string[] = []) {
    this.size = size;
    this.nodes = nodes.map((node) => Buffer.from(node, 'base64'));
  }

  /** As it is kept. */
  get texts(): string[] {
    return this.nodes.map((node) => node.toString('base64'));
  }

  copy(): Frontier {
    return new Frontier(this.size, this.texts);
  }

  append(leaf: Buffer): void {
    let node = leaf;
    // As often as the size can be halved there is a whole subtree on the left that is as large.
    for (let size = this.size; size % 2 === 1; size = (size - 1) / 2)
      node = parentOf(this.nodes.pop()!, node);
    this.nodes.push(node);
    this.size++;
  }

  root(): Buffer {
    if (this.nodes.length === 0) return sha256('');
    return this.nodes.reduceRight((right, left) => parentOf(left, right));
  }
}

// Signed notes of the C2SP specifications: tlog-checkpoint, and what witnesses add to one, tlog-cosignature.

/** Types of keys and what they sign. */
export const ED25519 = 1;
export const COSIGNATURE = 4;
/** The latest that there is a date for, ms since the epoch. */
const LATEST_TIME = 8.64e15;

/** A key of a log or a witness, as it is written: `NAME+ID+BASE64`. */
export interface NoteKey {
  name: string;
  type: number;
  /** Eight hexadecimal digits. */
  id: string;
  key: KeyObject;
}

/** What a key is written as. `raw`: 32 bytes. */
export function noteKeyText(name: string, type: number, raw: Buffer): string {
  const bytes = Buffer.concat([Buffer.of(type), raw]);
  const id = sha256(`${name}\n`, bytes).subarray(0, 4).toString('hex');
  return `${name}+${id}+${bytes.toString('base64')}`;
}

export const rawOf = (key: KeyObject): Buffer =>
  Buffer.from(`${key.export({ format: 'jwk' }).x}`, 'base64url');

/** Throws for what is no key. */
export function noteKey(text: string): NoteKey {
  const [, name, id, base64] = /^([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/.exec(text.trim()) ?? [];
  const bytes = Buffer.from(base64 ?? '', 'base64');
  const [type, raw] = [bytes[0], bytes.subarray(1)];
  if (name === undefined || (type !== ED25519 && type !== COSIGNATURE) || raw.length !== 32)
    throw new Error('it is no key of a witness or a trail: that is NAME+ID+BASE64');
  if (noteKeyText(name, type, raw) !== text.trim())
    throw new Error('it is no key of a witness or a trail: its id is not the one of its name and key');
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') };
  return { name, type, id: id!, key: createPublicKey({ key: jwk, format: 'jwk' }) };
}

/** A checkpoint as witnesses have it: so many records, with this root of their tree. */
export interface Note {
  /** What is signed, with the newline at its end. */
  body: string;
  origin: string;
  size: number;
  /** 32 bytes. */
  root: Buffer;
  signatures: { name: string; id: string; bytes: Buffer }[];
}

/** A signature, as it stands behind what is signed. */
export function signatureLine({ name, id, bytes }: Note['signatures'][number]): string {
  return `— ${name} ${Buffer.concat([Buffer.from(id, 'hex'), bytes]).toString('base64')}\n`;
}

/** Lines of signatures. Throws for anything else. */
export function signatureLines(text: string): Note['signatures'] {
  if (!text.endsWith('\n')) throw new Error('it does not end with a line');
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const [, name, base64] = /^— (\S+) ([A-Za-z0-9+/]+={0,2})$/.exec(line) ?? [];
      const bytes = Buffer.from(base64 ?? '', 'base64');
      if (name === undefined || bytes.length < 5) throw new Error('it is no signature of a note');
      return { name, id: bytes.subarray(0, 4).toString('hex'), bytes: bytes.subarray(4) };
    });
}

/** Throws for what is no checkpoint. */
export function parseNote(text: string): Note {
  const end = text.indexOf('\n\n');
  const body = text.slice(0, end + 1);
  const [origin = '', size = '', root = ''] = body.split('\n');
  const bytes = Buffer.from(root, 'base64');
  const isRoot = bytes.length === 32 && bytes.toString('base64') === root;
  if (end < 0 || origin === '' || !/^(0|[1-9]\d{0,14})$/.test(size) || !isRoot)
    throw new Error('it is no checkpoint');
  return { body, origin, size: Number(size), root: bytes, signatures: signatureLines(text.slice(end + 2)) };
}

/** What is signed by a witness at a time, s since the epoch. */
export const cosigned = (body: string, seconds: bigint): Buffer =>
  Buffer.from(`cosignature/v1\ntime ${seconds}\n${body}`);

/** The signature of the owner of a key, and when it was made, ms since the epoch (0 where that is not said); undefined where there is none. */
export function signatureBy(
  { body, signatures }: Pick<Note, 'body' | 'signatures'>,
  { name, id, type, key }: NoteKey,
): { signature: Note['signatures'][number]; at: number } | undefined {
  for (const signature of signatures) {
    if (signature.name !== name || signature.id !== id) continue;
    const { bytes } = signature;
    if (type === ED25519 && verify(null, Buffer.from(body), key, bytes)) return { signature, at: 0 };
    if (type !== COSIGNATURE || bytes.length !== 72) continue;
    const seconds = bytes.readBigUInt64BE();
    if (verify(null, cosigned(body, seconds), key, bytes.subarray(8)))
      return { signature, at: Math.min(Number(seconds) * 1000, LATEST_TIME) };
  }
  return undefined;
}

export interface Wrong {
  /** The first record that is not what it was. */
  badSeq: number;
  reason: string;
  /** Nothing shows that it was changed, nor that it was not. */
  isUnknown?: boolean;
}

/** Up to which record a witness has seen the trail. */
export interface Seen {
  name: string;
  seq: number;
  /** Ms since the epoch; 0 for checkpoints of the trail itself. */
  at: number;
}

/** Whose word counts: how they name the trail, and their keys. */
export interface KnownWitnesses {
  origin: string;
  witnesses: readonly NoteKey[];
}

/** Walks along the chain, from its beginning or from behind a record of it. */
export class ChainCheck {
  /** The number of the last record that was taken. */
  seq: number;
  readonly first: number;
  readonly seen = new Map<string, Seen>();
  /** Of the last record that was taken. */
  hash: string;
  /** Times of the first record that no witness has seen, and of the last one, ms since the epoch. */
  #unseenSince: number | undefined;
  #lastAt = 0;
  readonly #tree: Frontier;
  readonly #known: KnownWitnesses;
  /** What witnesses have signed, by size. */
  readonly #signed = new Map<number, { note: Note; name: string; at: number }[]>();

  constructor(begin?: PartBegin, known: KnownWitnesses = { origin: '', witnesses: [] }) {
    this.seq = begin?.seq ?? 0;
    this.first = this.seq + 1;
    this.hash = begin?.hash ?? GENESIS;
    this.#tree = new Frontier(this.seq, begin?.frontier);
    this.#known = known;
  }

  /** A checkpoint of what comes, or has come just now; only what witnesses have signed of this trail that we know counts. */
  witnessed(note: Note, witnesses = this.#known.witnesses): Wrong | undefined {
    for (const witness of note.origin === this.#known.origin ? witnesses : []) {
      const signed = signatureBy(note, witness);
      if (!signed || note.size < this.seq || note.size === 0) continue;
      const seen = { note, name: witness.name, at: signed.at };
      this.#signed.set(note.size, [...(this.#signed.get(note.size) ?? []), seen]);
    }
    return this.#compare();
  }

  #compare(): Wrong | undefined {
    const signed = this.#signed.get(this.seq);
    if (!signed) return undefined;
    this.#signed.delete(this.seq);
    const root = this.#tree.root();
    for (const { note, name, at } of signed) {
      if (!note.root.equals(root))
        return { badSeq: this.seq, reason: `${name} has seen another trail up to record ${this.seq}` };
      if ((this.seen.get(name)?.at ?? 0) <= at) this.seen.set(name, { name, seq: this.seq, at });
    }
    this.#unseenSince = undefined;
    return undefined;
  }

  /** The next record; what is wrong with it, if anything is. */
  take(row: ChainRecord): Wrong | undefined {
    const expected = this.seq + 1;
    if (row.seq !== expected) return { badSeq: expected, reason: `record ${expected} is missing` };
    if (row.previous !== this.hash)
      return { badSeq: row.seq, reason: `record ${row.seq} does not follow on the one before it` };
    if (hashOf(row) !== row.hash)
      return { badSeq: row.seq, reason: `record ${row.seq} was changed after it was written` };
    this.hash = row.hash;
    this.#tree.append(leafOf(row.hash));
    this.seq++;
    this.#unseenSince ??= row.at;
    this.#lastAt = row.at;
    return this.#compare();
  }

  /** What is wrong with a signed record, if it is not the one that was taken last. */
  end(checkpoint: Checkpoint, keys: readonly KeyObject[]): Wrong | undefined {
    const { seq, hash } = checkpoint;
    const bad = (reason: string): Wrong => ({ badSeq: seq, reason });
    if (!isSigned(checkpoint, keys))
      return bad(
        `the checkpoint of record ${seq} is not signed by this controller, or its key is another one`,
      );
    if (seq !== this.seq || hash !== this.hash) return bad(`record ${seq} is not the one that was signed`);
    return undefined;
  }

  /** What is wrong where no more comes: a witness has seen more. */
  cut(): Wrong | undefined {
    let size = 0;
    for (const each of this.#signed.keys()) size = Math.max(size, each);
    const [seen] = this.#signed.get(size) ?? [];
    if (!seen) return undefined;
    const reason = `${seen.name} has seen ${size} records, and there are ${this.seq}: it was cut, or this is an older backup`;
    return { badSeq: this.seq + 1, reason };
  }

  /** For how long no witness has seen the records at the end, ms by their times. */
  get unseenMs(): number {
    return this.#unseenSince === undefined ? 0 : this.#lastAt - this.#unseenSince;
  }

  /** Whether a part that begins so goes on from here in the tree, too. */
  isBeginOf({ frontier }: PartBegin): boolean {
    return frontier.join() === this.#tree.texts.join();
  }

  /** Where the next part begins. */
  next(signature: string): PartBegin {
    return { seq: this.seq, hash: this.hash, signature, frontier: this.#tree.texts };
  }
}

export interface Checked {
  /** The numbers of the first record and of the last. */
  first: number;
  last: number;
  hash: string;
  /** By whom it was seen, of those who are known. */
  seen: Seen[];
  /** For how long no witness has seen the records at the end, ms by their times. */
  unseenMs: number;
}

/** What it is checked by. */
export interface Known {
  /** Of the controller: one of them has signed. */
  keys: readonly KeyObject[];
  /** Each must have seen some of it. */
  seen?: KnownWitnesses;
  /** What witnesses have signed, as others have kept it. */
  notes?: readonly Note[];
}

/** The lines of a trail, whichever part of it they are in. */
class LineCheck {
  chain: ChainCheck | undefined;
  readonly #known: Known;
  #place: 'begin' | 'middle' | 'over' = 'begin';

  constructor(known: Known) {
    this.#known = known;
  }

  get next(): number {
    return (this.chain?.seq ?? 0) + 1;
  }

  /** After the last line of a part; what is wrong with it, if anything is. */
  endPart(): Wrong | undefined {
    if (this.#place === 'begin') throw new Error('there is nothing in it');
    if (this.#place !== 'over')
      return this.#bad(
        'its signed end is missing: it was cut, or this is a file to which it is forwarded, of which nothing is signed',
      );
    this.#place = 'begin';
    return undefined;
  }

  #bad(reason: string): Wrong {
    return { badSeq: this.next, reason };
  }

  /** What is wrong where the trail begins. */
  #begin(begin?: PartBegin): Wrong | undefined {
    const { seen, notes = [] } = this.#known;
    this.chain = new ChainCheck(begin, seen);
    for (const note of notes) {
      const wrong = this.chain.witnessed(note);
      if (wrong) return wrong;
    }
    return undefined;
  }

  /** The next line; what is wrong with it, if anything is. Throws where the first one is none. */
  take(text: string): Wrong | undefined {
    if (this.#place === 'over') return this.#bad('there is more behind the signed end');
    const line = parsed(text);
    if (line === undefined && this.chain === undefined) throw new Error('it is no export of an audit trail');
    if (line === undefined) return this.#bad(`where record ${this.next} should be there is none`);
    const isFirst = this.#place === 'begin';
    if (isFirst && this.chain && startOf(line) < this.chain.seq)
      throw new Error('the parts of the trail are not in order, oldest first, each once');
    this.#place = 'middle';
    if ('follows' in line) return this.#follow(line.follows, isFirst);
    const wrong = this.chain ? undefined : this.#begin();
    const chain = this.chain!;
    if (wrong) return wrong;
    if ('witnessed' in line) return chain.witnessed(line.witnessed);
    if (!('checkpoint' in line)) return chain.take(line);
    this.#place = 'over';
    return chain.end(line.checkpoint, this.#known.keys);
  }

  #follow(begin: PartBegin, isFirst: boolean): Wrong | undefined {
    const { keys } = this.#known;
    if (!isFirst) return this.#bad('in the middle of a part another one begins');
    if (this.chain)
      return (
        this.chain.end(begin, keys) ??
        (this.chain.isBeginOf(begin)
          ? undefined
          : this.#bad('what it follows on is another trail for witnesses'))
      );
    if (!isSigned(begin, keys))
      return this.#bad(`that it follows on record ${begin.seq} is not signed by this controller`);
    return this.#begin(begin);
  }
}

/**
 * Checks files with parts of the trail that follow on each other, archives first: records, and the checkpoint of the last one of each. Throws
 * for what never was a part of a trail, and for what cannot be read.
 */
export async function checkParts(files: readonly string[], known: Known): Promise<Checked | Wrong> {
  const lines = new LineCheck(known);
  for (const file of files) {
    const wrong = await checkPart(file, lines).catch((error: Error) => {
      throw new Error(`${file}: ${error.message}`, { cause: error });
    });
    if (wrong) return wrong;
  }
  const { chain } = lines;
  if (!chain) throw new Error('there is nothing to check');
  const cut = chain.cut();
  if (cut) return cut;
  for (const { name } of known.seen?.witnesses ?? [])
    if (!chain.seen.has(name))
      return { badSeq: chain.first, reason: `${name} has signed none of it`, isUnknown: true };
  const { first, seq: last, hash, unseenMs } = chain;
  return { first, last, hash, seen: [...chain.seen.values()], unseenMs };
}

async function checkPart(file: string, lines: LineCheck): Promise<Wrong | undefined> {
  for await (const text of linesOf(file)) {
    const wrong = text.trim() === '' ? undefined : lines.take(text);
    if (wrong) return wrong;
  }
  return lines.endPart();
}

/** After which record a part begins that has this first line. */
const startOf = (line: ParsedLine): number =>
  'follows' in line ? line.follows.seq : 'seq' in line ? line.seq - 1 : Number.POSITIVE_INFINITY;

type ParsedLine = Exclude<Line, { witnessed: string }> | { witnessed: Note };

/** The keys of each kind of line: what else stands in one nobody has signed. */
const KINDS = new Set([
  'action,actor,at,detail,hash,outcome,previous,seq,source,target',
  'checkpoint',
  'follows',
  'witnessed',
]);

/** A line; undefined for what is none, as whoever changed it may have written anything. */
function parsed(text: string): ParsedLine | undefined {
  try {
    const line: Line = JSON.parse(text);
    // What is said twice, or otherwise than it is read, others may read otherwise.
    if (JSON.stringify(line) !== text) return undefined;
    if (!KINDS.has(Object.keys(line).sort().join())) return undefined;
    if ('witnessed' in line) return { witnessed: parseNote(line.witnessed) };
    const { seq, hash } =
      'follows' in line ? line.follows : 'checkpoint' in line ? line.checkpoint : (line as ChainRecord);
    if (!Number.isSafeInteger(seq) || typeof hash !== 'string') return undefined;
    if ('checkpoint' in line) Buffer.from(line.checkpoint.signature, 'base64');
    if ('follows' in line) {
      const whole = new Frontier(seq, line.follows.frontier);
      if (whole.nodes.length !== seq.toString(2).replaceAll('0', '').length) return undefined;
      Buffer.from(line.follows.signature, 'base64');
    }
    return line;
  } catch {
    return undefined;
  }
}

/** The checkpoints of a file that has one in each line. What is none, such as a line that was not written to its end, is left out. */
export function notesIn(text: string): Note[] {
  return text.split('\n').flatMap((line) => {
    const found = parsed(line);
    return found && 'witnessed' in found ? [found.witnessed] : [];
  });
}

/** What others have kept: a checkpoint, or one in each line. Throws where there is none. */
function keptNotes(file: string): Note[] {
  const text = readFileSync(file, 'utf8');
  const notes = text.includes('{') ? notesIn(text) : notesIn(JSON.stringify({ witnessed: text }));
  if (notes.length === 0) throw new Error(`there is no checkpoint in ${file}`);
  return notes;
}

/** Whether a file is a key, and no part of a trail. */
function isPem(file: string): boolean {
  const begin = Buffer.alloc(PEM.length);
  const descriptor = openSync(file, 'r');
  try {
    readSync(descriptor, begin);
  } finally {
    closeSync(descriptor);
  }
  return begin.toString() === PEM;
}

function publicKeyIn(text: string, file: string): KeyObject {
  try {
    return createPublicKey(text);
  } catch {
    throw new Error(`there is no public key, PEM, in ${file}`);
  }
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const stored = createReadStream(file);
  const stream = file.endsWith('.gz') ? pipeline(stored, createGunzip(), () => undefined) : stored;
  let rest = '';
  for await (const piece of stream.setEncoding('utf8')) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    if (rest.length > LONGEST_LINE) throw new Error('a line is longer than any of a trail');
    yield* lines;
  }
  yield rest;
}

const LONGEST_LINE = 1 << 20;
const DAY_MS = 24 * 3600_000;
const PEM = '-----BEGIN';
const USAGE =
  'usage: stowage-verify [--origin ORIGIN --witness KEY... [--checkpoints FILE]...] [ARCHIVE]... EXPORT KEY.pem...';

/** The options and files of the command, by what they are. */
function given(): { files: string[]; known: Known } | undefined {
  const options = {
    origin: { type: 'string' },
    witness: { type: 'string', multiple: true },
    checkpoints: { type: 'string', multiple: true },
  } as const;
  const {
    values: { origin, witness = [], checkpoints = [] },
    positionals,
  } = parseArgs({ options, allowPositionals: true });
  const keys: KeyObject[] = [];
  const files: string[] = [];
  for (const file of positionals) {
    if (!isPem(file)) files.push(file);
    else keys.push(publicKeyIn(readFileSync(file, 'utf8'), file));
  }
  if (files.length === 0) return undefined;
  if (keys.length === 0) throw new Error(`there is no public key, PEM, in ${files.join(' or ')}`);
  if ((origin === undefined) !== (witness.length === 0) || (checkpoints.length > 0 && witness.length === 0))
    throw new Error('--origin and --witness come together, and --checkpoints with them');
  const notes = checkpoints.flatMap(keptNotes);
  const seen = origin === undefined ? undefined : { origin, witnesses: witness.map(noteKey) };
  return { files, known: { keys, seen, notes } };
}

/** The checkpoints of a trail itself say nothing of the time. */
const seenWords = (name: string, seq: number, at: number): string =>
  at === 0
    ? `checkpoints of ${name} that were kept elsewhere go up to record ${seq}`
    : `${name} has seen it up to record ${seq}, at ${new Date(at).toISOString()}`;

async function main(): Promise<number> {
  if (process.argv.includes('--help')) {
    console.log(USAGE);
    return 0;
  }
  const what = given();
  if (!what) {
    console.error(USAGE);
    return 2;
  }
  const outcome = await checkParts(what.files, what.known);
  if ('reason' in outcome) {
    if (outcome.isUnknown) {
      console.log(`whether the trail is whole is not known: ${outcome.reason}`);
      return 2;
    }
    console.log(`THE TRAIL WAS TAMPERED WITH at record ${outcome.badSeq}: ${outcome.reason}`);
    return 1;
  }
  const { first, last, hash, seen, unseenMs } = outcome;
  const before = first === 1 ? '' : ` after record ${first - 1}, of those before nothing is known`;
  const count = last - first + 1;
  console.log(
    `the trail is whole: ${count} record${count === 1 ? '' : 's'}${before}, signed up to ${hash.slice(0, 16)}`,
  );
  for (const { name, seq, at } of seen) console.log(seenWords(name, seq, at));
  if (seen.length === 0 || unseenMs < DAY_MS) return 0;
  const newest = Math.max(...seen.map(({ seq }) => seq));
  console.log(
    `nobody has seen the records after ${newest}, of more than a day: whether they are whole is not known`,
  );
  return 2;
}

if (import.meta.main)
  main().then(
    (status) => {
      process.exitCode = status;
    },
    (error: Error) => {
      console.error(`stowage-verify: ${error.message}`);
      process.exitCode = 2;
    },
  );
