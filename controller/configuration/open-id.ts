import { ROLES, type Role } from '../../shared/protocol/rights.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { OpenIdOptions } from '../auth/open-id.ts';
import { type Configuration, issuerSchema } from './schema.ts';
import { secretIn } from './secret-file.ts';

/**
 * The OpenID provider, if there is one: the environment's, where that names one, or the file's. Its secret lies in a file: what stands
 * in the environment many can read. Throws `invalid-argument`.
 */
export function openIdOptions(
  env: NodeJS.ProcessEnv,
  configuration: Configuration,
): OpenIdOptions | undefined {
  const issuer = env.STOWAGE_OIDC_ISSUER;
  if (!issuer) return ofFile(configuration['open-id']);
  const needed = (name: string): string => {
    const value = env[name];
    if (value) return value;
    throw new StowageError('invalid-argument', `STOWAGE_OIDC_ISSUER is set, and needs ${name}`);
  };
  const { error } = issuerSchema.safeParse(issuer);
  if (error) throw new StowageError('invalid-argument', `STOWAGE_OIDC_ISSUER: ${error.issues[0]!.message}`);
  const groupsOf = (role: Role): string[] =>
    (env[`STOWAGE_OIDC_${role.toUpperCase()}S`] ?? '').split(',').flatMap((group) => group.trim() || []);
  const groups = { viewer: groupsOf('viewer'), operator: groupsOf('operator'), admin: groupsOf('admin') };
  if (ROLES.every((role) => groups[role].length === 0))
    throw new StowageError(
      'invalid-argument',
      'STOWAGE_OIDC_ISSUER is set, and nobody could sign in: name groups in STOWAGE_OIDC_VIEWERS, _OPERATORS or _ADMINS',
    );
  return {
    ...{ issuer, groups, clientId: needed('STOWAGE_OIDC_CLIENT_ID') },
    clientSecret: secretIn(needed('STOWAGE_OIDC_CLIENT_SECRET_FILE')),
  };
}

function ofFile(given: Configuration['open-id']): OpenIdOptions | undefined {
  if (!given) return undefined;
  const { issuer, viewers, operators, admins } = given;
  return {
    ...{ issuer, clientId: given['client-id'], clientSecret: secretIn(given['client-secret-file']) },
    groups: { viewer: viewers, operator: operators, admin: admins },
  };
}
