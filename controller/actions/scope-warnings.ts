import { isStowageError } from '../../shared/util/errors.ts';
import type { Services } from './action.ts';

/**
 * A warning for each host in scopes that there is none of: of a name that is misspelt its holder would see nothing, as if all were well.
 * Undefined where there is nothing to warn of. Labels may get their hosts later.
 */
export async function scopeWarnings(
  { fleet }: Services,
  scopes: readonly string[],
): Promise<string[] | undefined> {
  const hosts = new Set(scopes.flatMap((scope) => (scope.startsWith('@') ? [] : scope.split('/')[0]!)));
  const warnings: string[] = [];
  for (const host of hosts)
    await fleet.get(host).catch((error: unknown) => {
      if (!isStowageError(error, 'host-not-found')) throw error;
      warnings.push(`there is no host '${host}' now`);
    });
  return warnings.length > 0 ? warnings : undefined;
}
