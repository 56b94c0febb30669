import type { Permissions } from '../permissions.ts';
import type { XmlElement } from './element.ts';
import { xmlError } from './values.ts';
import type { XmlWriter } from './write.ts';

/** -1, also as 32 bits without sign, means: leave it as it is. */
function parseId(text: string | undefined, malformed: string): number | undefined {
  if (text === undefined) return undefined;
  const id = /^ *-?\d{1,10} *$/.test(text) ? Number(text) : Number.NaN;
  if (!(id >= -1 && id <= 0xffff_ffff)) throw xmlError(malformed);
  return id === -1 || id === 0xffff_ffff ? undefined : id;
}

/** undefined when nothing is to be set. */
export function parsePermissions(element: XmlElement): Permissions | undefined {
  const mode = element.textOf('mode');
  if (mode !== undefined && !/^ *[0-7]{1,6}$/.test(mode)) throw xmlError('malformed octal mode');
  const bits = mode === undefined ? undefined : Number.parseInt(mode, 8);
  if (bits !== undefined && bits > 0o777) throw xmlError('malformed octal mode');
  const permissions = {
    mode: bits,
    owner: parseId(element.textOf('owner'), 'malformed owner element'),
    group: parseId(element.textOf('group'), 'malformed group element'),
    label: element.textOf('label'),
  };
  return Object.values(permissions).some((value) => value !== undefined) ? permissions : undefined;
}

export function formatPermissions(xml: XmlWriter, { mode, owner, group, label }: Permissions): void {
  xml.element('permissions', {}, () => {
    if (mode !== undefined) xml.leaf('mode', `0${mode.toString(8)}`);
    if (owner !== undefined) xml.leaf('owner', owner);
    if (group !== undefined) xml.leaf('group', group);
    if (label !== undefined) xml.leaf('label', label);
  });
}
