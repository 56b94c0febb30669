import { createCipheriv, createDecipheriv } from 'node:crypto';
import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { keptFile } from '../store/kept-file.ts';

const ALGORITHM = 'aes-256-gcm';
const [KEY_BYTES, NONCE_BYTES, TAG_BYTES] = [32, 12, 16];

/** Seals texts with a key that lies in a file beside the store, for its owner only: the store alone, or a backup of it, opens nothing. */
export class Sealing {
  readonly #key: Buffer;

  /** Makes the key where there is none. */
  constructor(path: string) {
    const made = keptFile(path, () => `${clock.randomBytes(KEY_BYTES).toString('base64')}\n`);
    this.#key = Buffer.from(made.trim(), 'base64');
    if (this.#key.length !== KEY_BYTES)
      throw new StowageError('io-error', `the key of the secrets, ${path}, is damaged`);
  }

  /** `label` must be given again to open it: what was sealed for one thing does not open in the place of another. */
  seal(text: string, label: string): string {
    const nonce = clock.randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#key, nonce).setAAD(Buffer.from(label));
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, sealed, cipher.getAuthTag()]).toString('base64');
  }

  /** Throws `io-error` for what another key, or another label, has sealed, and for what was changed. */
  open(sealed: string, label: string): string {
    const bytes = Buffer.from(sealed, 'base64');
    try {
      const decipher = createDecipheriv(ALGORITHM, this.#key, bytes.subarray(0, NONCE_BYTES))
        .setAAD(Buffer.from(label))
        .setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
      const text = decipher.update(bytes.subarray(NONCE_BYTES, bytes.length - TAG_BYTES));
      return Buffer.concat([text, decipher.final()]).toString('utf8');
    } catch (error) {
      throw new StowageError(
        'io-error',
        'a secret cannot be opened: the file secrets-key in the data directory is another one than when it was sealed',
        { cause: error },
      );
    }
  }
}
