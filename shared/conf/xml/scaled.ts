import { StowageError } from '../../util/errors.ts';
import type { XmlElement } from './element.ts';
import { xmlError } from './values.ts';

const POWERS = 'kmgtpe';
const MOST = 2n ** 63n - 1n;

/** How many bytes one `unit` is: `K`, `KiB` are 1024, `KB` is 1000, in any case; none is bytes. */
function unitBytes(unit: string): bigint {
  const lower = unit.toLowerCase();
  if (['', 'b', 'byte', 'bytes'].includes(lower)) return 1n;
  const match = /^([kmgtpe])(|ib|b)$/.exec(lower);
  if (!match) throw new StowageError('invalid-xml', `invalid argument: unknown suffix '${unit}'`);
  return (match[2] === 'b' ? 1000n : 1024n) ** BigInt(POWERS.indexOf(match[1]!) + 1);
}

/** A size in bytes, from the text of an element and its attribute `unit`. Throws in libvirt's words. */
export function scaledBytes(element: XmlElement): bigint {
  if (!/^\s*\+?\d{1,20}$/.test(element.text) || BigInt(element.text) >= 2n ** 64n)
    // Whatever element it is: libvirt's word for all sizes.
    throw xmlError('malformed capacity element');
  const unit = element.attribute('unit') ?? '';
  const bytes = BigInt(element.text) * unitBytes(unit);
  if (bytes > MOST)
    throw new StowageError(
      'invalid-xml',
      `numerical overflow: value too large: ${BigInt(element.text)}${unit}`,
    );
  return bytes;
}
