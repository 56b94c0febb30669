/** From the lowest to the highest: each may all that the one before it may. */
export const ROLES = ['viewer', 'operator', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A part of the fleet; all of it without a host. */
export interface Place {
  host?: string;
  pool?: string;
}

/** Where somebody may do something. */
export interface Reach {
  /** `HOST`, `HOST/POOL`, or `@LABEL` for the hosts that have a label now; everywhere when there is none. */
  scopes: readonly string[];
  /** Tells which host has which label. */
  labels: { has(host: string, label: string): boolean };
}

/** Whether `role` may do what needs `needed`. */
export function includesRole(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/**
 * Whether a place is in some scopes. Who has a pool in its scopes may `look` at the host of it; only who has the whole host may
 * `act` on the host itself.
 */
export function mayTouch({ scopes, labels }: Reach, { host, pool }: Place, how: 'look' | 'act'): boolean {
  if (scopes.length === 0) return true;
  if (host === undefined) return false;
  return scopes.some((scope) => {
    if (scope.startsWith('@')) return labels.has(host, scope.slice(1));
    const [scopeHost, scopePool] = scope.split('/');
    if (scopeHost !== host) return false;
    if (scopePool === undefined || scopePool === pool) return true;
    return pool === undefined && how === 'look';
  });
}
