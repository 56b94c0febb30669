import { ROLES, type Role } from '../../shared/protocol/api.ts';
import type { HostLabels } from './host-labels.ts';

/** Somebody who may do something. */
export interface Principal {
  /** Random, never used again. */
  id: string;
  /** A program with a token, or the controller itself. */
  kind: 'token' | 'controller';
  name: string;
  role: Role;
  /** `HOST`, `HOST/POOL`, or `@LABEL` for the hosts that have a label now; everywhere when there is none. */
  scopes: readonly string[];
  /** Tells which host has which label. */
  labels: Pick<HostLabels, 'has'>;
}

/** A part of the fleet; all of it without a host. */
export interface Place {
  host?: string;
  pool?: string;
}

/** What the controller does by itself. */
export const CONTROLLER: Principal = {
  id: 'controller',
  kind: 'controller',
  name: 'controller',
  role: 'admin',
  scopes: [],
  labels: { has: () => false },
};

/** Whether `role` may do what needs `needed`. */
export function includesRole(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/**
 * Whether a place is in the scopes of a principal. Who has a pool in its scopes may `look` at the host of it; only who has the
 * whole host may `act` on the host itself.
 */
export function mayTouch({ scopes, labels }: Principal, { host, pool }: Place, how: 'look' | 'act'): boolean {
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
