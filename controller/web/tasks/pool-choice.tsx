import { useEffect } from 'react';
import type { FleetPool } from '../../../shared/protocol/api.ts';
import { shownState } from '../../../shared/protocol/pool-state.ts';
import { usePools } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { formatBytes } from '../parts/format.ts';
import { SearchedChoice } from '../parts/searched-choice.tsx';

interface PoolChoiceProps {
  label: string;
  /** `host/pool`. */
  value: string;
  onChange(value: string): void;
  /** What shall be done in it. */
  action: string;
  /** Why a pool cannot take it; undefined when it can. */
  refusal?(pool: FleetPool): string | undefined;
}

const keyOf = ({ host, name }: FleetPool): string => `${host}/${name}`;

/** Pools, and why those that cannot be chosen cannot. */
export function PoolChoice({ label, value, onChange, action, refusal }: PoolChoiceProps) {
  const may = useMay();
  const pools = usePools();
  const options = pools.map((pool) => ({
    id: keyOf(pool),
    label: keyOf(pool),
    detail: `${pool.type}, ${formatBytes(pool.availableBytes)} left`,
    reason: !may(action, { host: pool.host, pool: pool.name })
      ? 'you may not do this there'
      : shownState(pool) === 'away'
        ? 'its host does not answer'
        : pool.state !== 'running'
          ? (pool.reason ?? `it is ${pool.state}`)
          : refusal?.(pool),
  }));
  const [only, another] = options.filter(({ reason }) => reason === undefined);
  const chosen = value || (another === undefined ? (only?.id ?? '') : '');
  // Where there is one only it is that.
  useEffect(() => {
    if (chosen !== value) onChange(chosen);
  }, [chosen, value, onChange]);
  return <SearchedChoice label={label} value={value} onChange={onChange} options={options} />;
}
