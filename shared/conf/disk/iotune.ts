import type { XmlElement } from '../xml/element.ts';
import { xmlError } from '../xml/values.ts';
import type { XmlWriter } from '../xml/write.ts';

const SCOPES = ['total', 'read', 'write'] as const;
const family = <T extends string>(suffix: T) => SCOPES.map((scope) => `${scope}_${suffix}` as const);

/** Limits of a disk: bytes and operations a second, the same in bursts, and how many seconds a burst may last. */
export const IOTUNE_LIMITS = [
  ...family('bytes_sec'),
  ...family('iops_sec'),
  ...family('bytes_sec_max'),
  ...family('iops_sec_max'),
  'size_iops_sec',
] as const;
const LENGTHS = [...family('bytes_sec_max_length'), ...family('iops_sec_max_length')] as const;

type Limit = (typeof IOTUNE_LIMITS)[number] | (typeof LENGTHS)[number];

/** By libvirt's names. Absent and 0 are the same: no limit. */
export interface Iotune {
  limits: Partial<Record<Limit, bigint>>;
  /** Disks of one group share its limits. */
  groupName?: string;
}

export function parseIotune(element: XmlElement): Iotune {
  const limits: Iotune['limits'] = {};
  for (const name of [...IOTUNE_LIMITS, ...LENGTHS]) {
    const text = element.textOf(name);
    if (text === undefined) continue;
    if (!/^\s*\+?\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n)
      throw xmlError(`disk iotune field '${name}' must be an integer`);
    if (BigInt(text) > 0n) limits[name] = BigInt(text);
  }
  return { limits, groupName: element.textOf('group_name') };
}

export function formatIotune(xml: XmlWriter, { limits, groupName }: Iotune): void {
  const write = (names: readonly Limit[]): void => {
    for (const name of names) if (limits[name] !== undefined) xml.leaf(name, String(limits[name]));
  };
  xml.optional('iotune', {}, () => {
    write(IOTUNE_LIMITS);
    if (groupName !== undefined) xml.leaf('group_name', groupName);
    write(LENGTHS);
  });
}
