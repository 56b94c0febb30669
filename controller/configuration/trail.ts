import { createSecureContext } from 'node:tls';
import { StowageError } from '../../shared/util/errors.ts';
import { fileDestination } from '../audit/forward/file.ts';
import { syslogDestination } from '../audit/forward/syslog.ts';
import type { UpkeepOptions } from '../audit/upkeep.ts';
import type { Configuration } from './schema.ts';
import { secretIn } from './secret-file.ts';

/** What is done with the trail, of the controller with this id. Throws `invalid-argument` for a file that cannot be read. */
export function trailOptions({ audit = {} }: Configuration, id: string): UpkeepOptions {
  const { keep, archives, witnesses = [], checkpoints, origin } = audit;
  return {
    destinations: destinationsOf(audit),
    witnesses,
    checkpoints,
    origin: origin ?? `stowage/${id}`,
    archives:
      archives !== undefined && keep !== undefined ? { directory: archives, keepMs: keep } : undefined,
  };
}

function destinationsOf({
  file,
  syslog,
}: NonNullable<Configuration['audit']>): UpkeepOptions['destinations'] {
  const destinations = file === undefined ? [] : [fileDestination(file)];
  if (!syslog) return destinations;
  const { 'ca-file': ca, 'cert-file': cert, 'key-file': key, ...where } = syslog;
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
  return [...destinations, syslogDestination({ ...where, ...certificates })];
}
