import { createPublicKey } from 'node:crypto';
import { type Frontier, noteKey, noteKeyText, rawOf } from '../stowage-verify.ts';
import type { AuditTrail } from '../trail.ts';

const ED25519 = 1;

/** The trail as witnesses know it: by its origin, a URL without a scheme, and its key. */
export class WitnessedLog {
  readonly origin: string;
  /** What a witness is told to know it by: `ORIGIN+ID+BASE64`. */
  readonly key: string;
  readonly #trail: AuditTrail;

  constructor(origin: string, trail: AuditTrail) {
    this.origin = origin;
    this.#trail = trail;
    this.key = noteKeyText(origin, ED25519, rawOf(createPublicKey(trail.publicKey)));
  }

  /** A signed checkpoint (C2SP tlog-checkpoint) of a tree of its records. */
  checkpoint(tree: Frontier): string {
    const body = `${this.origin}\n${tree.size}\n${tree.root().toString('base64')}\n`;
    const id = Buffer.from(noteKey(this.key).id, 'hex');
    const signature = Buffer.concat([id, this.#trail.sign(Buffer.from(body))]);
    return `${body}\n— ${this.origin} ${signature.toString('base64')}\n`;
  }
}
