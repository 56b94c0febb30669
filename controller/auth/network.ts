import { isIPv6 } from 'node:net';

/** What one customer has: an address of IPv4, or the 64 bits of IPv6 of which every machine makes as many addresses as it likes. */
export function networkOf(source: string): string {
  if (!isIPv6(source) || source.includes('.')) return source;
  const [head = '', tail] = source.split('::');
  const groups = head === '' ? [] : head.split(':');
  const left = tail === undefined ? [] : tail === '' ? [] : tail.split(':');
  const all = [...groups, ...Array<string>(8 - groups.length - left.length).fill('0'), ...left];
  return all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}

/** Whether a name or an address is that of the machine itself; of IPv6 in brackets, as in a URL, or without. */
export const isLoopback = (host: string): boolean =>
  /^(localhost|127\.\d+\.\d+\.\d+|::1|\[::1\])$/.test(host);
