import { StowageError } from '../../shared/util/errors.ts';
import { locate } from '../host/mounts.ts';

/** Nothing in them is a volume, however deep: a pool there would offer the system's own files for deletion. */
const WITH_ALL_BELOW = [
  '/bin',
  '/boot',
  '/dev',
  '/etc',
  '/lib',
  '/lib32',
  '/lib64',
  '/proc',
  '/sbin',
  '/sys',
  '/usr',
];
/** Directories in which pools may be, and which are none themselves. */
const THEMSELVES = ['/home', '/root', '/run', '/tmp', '/var', '/var/lib'];
/** What people do use below the former. */
const EXCEPT = ['/usr/local', '/usr/share'];

const isIn = (path: string, directory: string): boolean => `${path}/`.startsWith(`${directory}/`);

/** Throws `invalid-argument` for a directory that is the system's. Links on the way count as where they lead to. */
export function refuseSystemDirectory(given: string): void {
  const { path } = locate(given);
  const isSystems =
    THEMSELVES.includes(path) ||
    (WITH_ALL_BELOW.some((directory) => isIn(path, directory)) &&
      !EXCEPT.some((directory) => path !== directory && isIn(path, directory)));
  if (isSystems)
    throw new StowageError(
      'invalid-argument',
      `${given} is a directory of the system; give the pool one of its own`,
    );
}
