import { createSecureContext } from 'node:tls';
import { StowageError } from '../../shared/util/errors.ts';
import type { Destination } from '../audit/forward/destination.ts';
import { fileDestination } from '../audit/forward/file.ts';
import { syslogDestination } from '../audit/forward/syslog.ts';
import type { Configuration } from './schema.ts';
import { secretIn } from './secret-file.ts';

/** Where the trail goes as it is made. Throws `invalid-argument` for a file that cannot be read. */
export function trailDestinations({ audit }: Configuration): Destination[] {
  const destinations: Destination[] = [];
  if (audit?.file !== undefined) destinations.push(fileDestination(audit.file));
  if (audit?.syslog) {
    const { 'ca-file': ca, 'cert-file': cert, 'key-file': key, ...where } = audit.syslog;
    const read = (path: string | undefined) => (path === undefined ? undefined : secretIn(path));
    const certificates = { ca: read(ca), cert: read(cert), key: read(key) };
    try {
      createSecureContext(certificates);
    } catch (error) {
      throw new StowageError(
        'invalid-argument',
        `audit.syslog: the certificates cannot be used: ${(error as Error).message}`,
      );
    }
    destinations.push(syslogDestination({ ...where, ...certificates }));
  }
  return destinations;
}
