import type { FleetPool } from './api.ts';

type State = Pick<FleetPool, 'state' | 'hostState'>;

/** Whether a pool can be used now. While its host does not answer, its `state` is the one that was told last. */
export const isUp = ({ state, hostState }: State): boolean =>
  state === 'running' && hostState === 'reachable';

/** The state of a pool in a word; `away` while its host does not answer. */
export const shownState = ({ state, hostState }: State): FleetPool['state'] | 'away' =>
  hostState === 'reachable' ? state : 'away';
