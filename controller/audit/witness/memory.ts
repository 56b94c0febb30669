import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  COSIGNATURE,
  cosigned,
  type Note,
  type NoteKey,
  noteKey,
  noteKeyText,
  parseNote,
  rawOf,
  signatureBy,
  signatureLine,
} from '../stowage-verify.ts';
import { refusalOf } from './advance.ts';

const MOST_PROOF_LINES = 63;

function syncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** The key of the witness: made once, and then kept. */
function keyIn(directory: string): KeyObject {
  const path = join(directory, 'witness-key.pem');
  if (!existsSync(path)) {
    const { privateKey } = generateKeyPairSync('ed25519');
    const unfinished = `${path}.new`;
    rmSync(unfinished, { force: true });
    writeFileSync(unfinished, privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
      flag: 'wx',
      flush: true,
    });
    linkSync(unfinished, path);
    rmSync(unfinished);
    syncPath(directory);
  }
  return createPrivateKey(readFileSync(path));
}

/** What a witness answers: a status of HTTP, and a text. */
export interface Reply {
  status: number;
  text: string;
  type?: string;
}

/** What a witness has seen of some trails, on its disk. */
export class WitnessMemory {
  /** By which others know what it signs. */
  readonly key: string;
  readonly #name: string;
  readonly #directory: string;
  readonly #private: KeyObject;
  readonly #logs: ReadonlyMap<string, readonly NoteKey[]>;
  readonly #now: () => number;

  /** `logs`: keys of the trails that it knows; `now`: ms since the epoch. Throws for a directory that cannot be used. */
  constructor(name: string, directory: string, logs: readonly NoteKey[], now: () => number) {
    this.#now = now;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#name = name;
    this.#directory = directory;
    this.#private = keyIn(directory);
    this.key = noteKeyText(name, COSIGNATURE, rawOf(createPublicKey(this.#private)));
    this.#logs = Map.groupBy(logs, (log) => log.name);
  }

  #path(origin: string): string {
    return join(this.#directory, createHash('sha256').update(origin).digest('hex'));
  }

  /** What it has signed last of a trail. Throws where that cannot be read: it has not forgotten it. */
  #last(origin: string): Note | undefined {
    const path = this.#path(origin);
    return existsSync(path) ? parseNote(readFileSync(path, 'utf8')) : undefined;
  }

  /** Durable before anybody is told: each in a file of all that was signed of this trail, the last one in a file of its own. */
  #remember(origin: string, note: string): void {
    const path = this.#path(origin);
    // On a line of its own, also where a kill or a full disk has left a part of one.
    const line = `\n${JSON.stringify({ witnessed: note })}\n`;
    appendFileSync(`${path}.jsonl`, line, { mode: 0o600, flush: true });
    writeFileSync(`${path}.new`, note, { mode: 0o600, flush: true });
    renameSync(`${path}.new`, path);
    syncPath(this.#directory);
  }

  /** The answer to the text of an `add-checkpoint`. Nothing else happens meanwhile, so that no two go on from the same. */
  add(request: string): Reply {
    const end = request.indexOf('\n\n');
    const [first = '', ...lines] = request.slice(0, Math.max(end, 0)).split('\n');
    const old = /^old (0|[1-9]\d{0,14})$/.exec(first)?.[1];
    const proof = lines.map((line) => Buffer.from(line, 'base64'));
    const isProof = proof.every((node) => node.length === 32) && proof.length <= MOST_PROOF_LINES;
    const text = request.slice(end + 2);
    const note = noteOf(text);
    if (old === undefined || !isProof || !note) return { status: 400, text: 'it is no add-checkpoint\n' };
    const keys = this.#logs.get(note.origin);
    if (!keys) return { status: 404, text: 'this trail is not known\n' };
    const signed = keys.map((key) => signatureBy(note, key)).find((each) => each !== undefined);
    if (!signed) return { status: 403, text: 'it is not signed by a key of this trail\n' };
    const last = this.#last(note.origin);
    const refusal = refusalOf(last, Number(old), note, proof);
    if (refusal === 'malformed') return { status: 400, text: 'sizes and proof do not fit\n' };
    if (refusal === 'inconsistent') return { status: 422, text: 'it does not go on from what was seen\n' };
    if (refusal === 'other-root') return { status: 409, text: `${note.size}\n`, type: 'text/x.tlog.size' };
    if (refusal) return { status: 409, text: `${refusal.seq}\n`, type: 'text/x.tlog.size' };
    const signature = this.#cosign(note.body);
    // Asked again, it signs again; there is nothing new to remember.
    if (last?.size !== note.size)
      this.#remember(note.origin, `${note.body}\n${signatureLine(signed.signature)}${signature}`);
    return { status: 200, text: signature };
  }

  #cosign(body: string): string {
    const seconds = BigInt(Math.floor(this.#now() / 1000));
    const time = Buffer.alloc(8);
    time.writeBigUInt64BE(seconds);
    const { id } = noteKey(this.key);
    const bytes = Buffer.concat([time, sign(null, cosigned(body, seconds), this.#private)]);
    return signatureLine({ name: this.#name, id, bytes });
  }
}

function noteOf(text: string): Note | undefined {
  try {
    return parseNote(text);
  } catch {
    return undefined;
  }
}
