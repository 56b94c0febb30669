import { StowageError } from '../../util/errors.ts';
import type { XmlElement } from './element.ts';

export const YES_NO = ['yes', 'no'] as const;
export const ON_OFF = ['on', 'off'] as const;

/** An error in a document, in libvirt's words, as virsh shows it. */
export function xmlError(message: string): StowageError {
  return new StowageError('invalid-xml', `XML error: ${message}`);
}

/** What no schema forbids and no host could do, as virsh shows it. */
export function internalError(message: string): StowageError {
  return new StowageError('invalid-xml', `internal error: ${message}`);
}

/** A document that is right in itself and asks for what cannot be, as virsh shows it. */
export function unsupported(message: string): StowageError {
  return new StowageError('invalid-xml', `unsupported configuration: ${message}`);
}

const badAttribute = (element: XmlElement, name: string, value: string): StowageError =>
  xmlError(`Invalid value for attribute '${name}' in element '${element.name}': '${value}'.`);

/** An attribute with a fixed set of values; undefined when it is absent. */
export function enumAttribute<T extends string>(
  element: XmlElement,
  name: string,
  values: readonly T[],
): T | undefined {
  const value = element.attributes.get(name);
  if (value === undefined) return undefined;
  const known = values.find((candidate) => candidate === value);
  if (known === undefined) throw badAttribute(element, name, value);
  return known;
}

/** A decimal number of 32 bits; undefined when the attribute is absent. */
export function integerAttribute(element: XmlElement, name: string): number | undefined {
  const value = element.attributes.get(name);
  if (value === undefined) return undefined;
  const number = /^ *\+?\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number < 2 ** 31))
    throw xmlError(
      `Invalid value for attribute '${name}' in element '${element.name}': '${value}'. Expected integer value`,
    );
  return number;
}

/**
 * A number of 32 bits without sign; undefined when the attribute is absent. `hex`: may also be written `0x1f`. `positive`:
 * zero is refused.
 */
export function unsignedAttribute(
  element: XmlElement,
  name: string,
  { hex = false, positive = false } = {},
): number | undefined {
  const value = element.attributes.get(name);
  if (value === undefined) return undefined;
  const number =
    (hex && /^0x[0-9a-f]{1,8}$/i.test(value)) || /^ *\+?\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  const place = `Invalid value for attribute '${name}' in element '${element.name}':`;
  if (!(number < 2 ** 32)) throw xmlError(`${place} '${value}'. Expected non-negative integer value`);
  if (positive && number === 0) throw xmlError(`${place} Zero is not permitted`);
  return number;
}

/** The value of an attribute that must be there. */
export function requiredAttribute(element: XmlElement, name: string): string {
  const value = element.attributes.get(name);
  if (value === undefined)
    throw xmlError(`Missing required attribute '${name}' in element '${element.name}'`);
  return value;
}

/** 32 hex digits with or without dashes, as lower-case text with them; throws `malformed` for anything else. */
export function parseUuid(text: string, malformed = xmlError('malformed uuid element')): string {
  const digits = text.trim().replaceAll('-', '').toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(digits)) throw malformed;
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
