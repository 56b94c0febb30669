import { createPublicKey } from 'node:crypto';
import { ED25519, type Frontier, noteKey, noteKeyText, rawOf, signatureLine } from '../stowage-verify.ts';
import type { AuditTrail } from '../trail.ts';

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
    const { name, id } = noteKey(this.key);
    return `${body}\n${signatureLine({ name, id, bytes: this.#trail.sign(Buffer.from(body)) })}`;
  }
}
