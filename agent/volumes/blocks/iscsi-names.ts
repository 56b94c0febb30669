import { StowageError } from '../../../shared/util/errors.ts';

const NAME = /^(iqn\.\d{4}-\d{2}\.[^\s/]+|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16,32})$/;
const DEFAULT_PORT = 3260;

/** Throws `invalid-argument` for what is no name of a target or an initiator of iSCSI. */
export function checkIscsiName(name: string): void {
  if (!NAME.test(name)) throw new StowageError('invalid-argument', `'${name}' is no name of iSCSI (iqn.…)`);
}

/** Where targets are reached, as tools of iSCSI take it: `10.0.0.1:3260`, `[fd00::1]:3260`. */
export function portalText({ name, port = DEFAULT_PORT }: { name: string; port?: number }): string {
  return name.includes(':') ? `[${name}]:${port}` : `${name}:${port}`;
}
