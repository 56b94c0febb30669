import { clock } from '../../shared/util/clock.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { spanOf } from '../../shared/util/units.ts';

/** Ms since the epoch of a date, in local time where it names no zone, or of so long ago. */
export function timeOf(text: string): number {
  const ago = spanOf(text);
  if (ago !== undefined) return clock.now() - ago;
  const day = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00` : text;
  const at = /^\d{4}-\d\d-\d\dT/.test(day) ? Date.parse(day) : Number.NaN;
  if (Number.isNaN(at))
    throw new StowageError('invalid-argument', `'${text}' is no time; such as 2h, 7d or 2026-11-24T16:00`);
  return at;
}
