import { Secret } from 'otpauth';
import { clock } from '../../shared/util/clock.ts';
import { hashOf } from './random-secret.ts';

const COUNT = 10;
/** 80 bits, sixteen letters and digits: a plain hash of it is enough. */
const BYTES = 10;

/** Codes by which a user comes back without the second factor, each once: `XXXX-XXXX-XXXX-XXXX`. */
export const newRecoveryCodes = (): string[] =>
  Array.from({ length: COUNT }, () => {
    const { buffer } = new Uint8Array(clock.randomBytes(BYTES));
    return new Secret({ buffer }).base32.match(/.{4}/g)!.join('-');
  });

/** What is kept of a code; undefined for what is none. */
export function recoveryHash(code: string): string | undefined {
  const text = code.replace(/[\s-]/g, '').toUpperCase();
  return /^[A-Z2-7]{16}$/.test(text) ? hashOf(text) : undefined;
}
