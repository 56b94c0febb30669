import { StowageError } from '../../shared/util/errors.ts';
import { isPostgresUrl } from '../store/location.ts';
import type { Configuration } from './schema.ts';
import { secretIn } from './secret-file.ts';

/**
 * `postgres://…`, or nothing, which is SQLite. It may hold a password: only the environment, which is the controller's own, or a file
 * says it. Throws `invalid-argument`.
 */
export function storeUrl(env: NodeJS.ProcessEnv, configuration: Configuration): string | undefined {
  const file = configuration['store-file'];
  const [url, where] = env.STOWAGE_STORE
    ? [env.STOWAGE_STORE, 'STOWAGE_STORE']
    : [file === undefined ? undefined : secretIn(file), file];
  if (url === undefined || isPostgresUrl(url)) return url;
  throw new StowageError('invalid-argument', `${where} is no postgres:// URL`);
}
