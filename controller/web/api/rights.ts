import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { includesRole, mayTouch, type Place } from '../../../shared/protocol/rights.ts';
import { actionsQuery, fleetQuery, hostsQuery } from './queries.ts';

/** All of the fleet, for what concerns no part of it alone. */
export const WHOLE: Place = {};

/**
 * Whether the one who is signed in may do something in a place, or, without one, somewhere: what they may not do is not offered. What is
 * about no place, such as people, is asked of {@link WHOLE}.
 */
export function useMay(): (action: string, place?: Place) => boolean {
  const { data: actions = [] } = useQuery(actionsQuery);
  const { data: fleet } = useQuery(fleetQuery);
  const { data: hosts } = useQuery(hostsQuery);
  const labels = useMemo(() => {
    const byHost = new Map((hosts ?? []).map((host) => [host.name, new Set(host.labels)]));
    return { has: (host: string, label: string) => byHost.get(host)?.has(label) ?? false };
  }, [hosts]);
  return (name, place) => {
    const action = actions.find((each) => each.name === name);
    if (!action || !fleet) return false;
    const { role, scopes } = fleet.caller;
    if (!includesRole(role, action.role)) return false;
    return place === undefined || mayTouch({ scopes, labels }, place, action.touch);
  };
}
