import { Secret, TOTP } from 'otpauth';
import { clock } from '../../shared/util/clock.ts';

const PERIOD_S = 30;

const totpOf = (secret: string, label: string): TOTP =>
  new TOTP({ issuer: 'Stowage', label, secret: Secret.fromBase32(secret), period: PERIOD_S });

/** A new secret for codes by time (RFC 6238), and the URI by which an app takes it up. */
export function newTotp(label: string): { secret: string; uri: string } {
  const secret = new Secret({ size: 20 }).base32;
  return { secret, uri: totpOf(secret, label).toString() };
}

/**
 * The time step of a code, of now or of the step before or after; undefined for one that is wrong, or not later than the last step whose
 * code was taken: nobody uses a code that somebody has seen.
 */
export function stepOfCode(secret: string, code: string, last: number | undefined): number | undefined {
  const delta = totpOf(secret, '').validate({
    token: code.replaceAll(' ', ''),
    timestamp: clock.now(),
    window: 1,
  });
  if (delta === null) return undefined;
  const step = Math.floor(clock.now() / 1000 / PERIOD_S) + delta;
  return last !== undefined && step <= last ? undefined : step;
}
