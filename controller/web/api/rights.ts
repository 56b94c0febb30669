import { useQuery } from '@tanstack/react-query';
import { includesRole, mayTouch, type Place } from '../../../shared/protocol/rights.ts';
import { actionsQuery, fleetQuery, hostsQuery } from './queries.ts';

/** Whether the one who is signed in may do something in a place: what they may not do is not offered. */
export function useMay(): (action: string, place?: Place) => boolean {
  const { data: actions = [] } = useQuery(actionsQuery);
  const { data: fleet } = useQuery(fleetQuery);
  const { data: hosts = [] } = useQuery(hostsQuery);
  return (name, place = {}) => {
    const action = actions.find((each) => each.name === name);
    if (!action || !fleet) return false;
    const { role, scopes } = fleet.caller;
    const labels = {
      has: (host: string, label: string) =>
        hosts.some((each) => each.name === host && each.labels.includes(label)),
    };
    return includesRole(role, action.role) && mayTouch({ scopes, labels }, place, action.touch);
  };
}
