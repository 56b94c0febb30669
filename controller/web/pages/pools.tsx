import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { FleetPool } from '../../../shared/protocol/api.ts';
import { shownState } from '../../../shared/protocol/pool-state.ts';
import { usedShare } from '../../../shared/util/units.ts';
import { linkTo } from '../api/client.ts';
import { poolsQuery } from '../api/queries.ts';
import { useAsked } from '../parts/asked.ts';
import { A, Badge, Button, Fill, Page, Problem, Size, type Tone } from '../parts/basics.tsx';
import { useOffers } from '../parts/commands.ts';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { percent } from '../parts/format.ts';
import { CreatePool } from '../tasks/create-pool.tsx';

const keyOf = ({ host, name }: FleetPool): string => `${host}/${name}`;
const TONES: Record<ReturnType<typeof shownState>, Tone> = {
  away: 'bad',
  running: 'good',
  inactive: 'neutral',
  building: 'busy',
  inaccessible: 'bad',
};

export const PoolState = ({ pool }: { pool: FleetPool }) => (
  <>
    <Badge tone={TONES[shownState(pool)]}>{shownState(pool)}</Badge>{' '}
    {pool.fill && pool.fill !== 'normal' && (
      <Badge tone={pool.fill === 'critical' ? 'bad' : 'warn'}>{pool.fill}</Badge>
    )}
  </>
);

const COLUMNS: readonly ColumnOf<FleetPool>[] = [
  {
    name: 'Pool',
    by: keyOf,
    width: '2fr',
    minWidth: 170,
    cell: (pool) => <A to={linkTo.pool(pool.host, pool.name)}>{keyOf(pool)}</A>,
  },
  { name: 'Type', by: ({ type }) => type, cell: ({ type }) => type },
  { name: 'State', by: shownState, minWidth: 165, cell: (pool) => <PoolState pool={pool} /> },
  {
    name: 'In use',
    by: (pool) => usedShare(pool) ?? 0,
    minWidth: 130,
    cell: (pool) => <Fill label={`${keyOf(pool)} in use`} share={usedShare(pool)} fill={pool.fill} />,
  },
  {
    name: 'Capacity',
    by: ({ capacityBytes }) => capacityBytes,
    isNumber: true,
    cell: ({ capacityBytes }) => <Size bytes={capacityBytes} />,
  },
  {
    name: 'Available',
    by: ({ availableBytes }) => availableBytes,
    isNumber: true,
    cell: ({ availableBytes }) => <Size bytes={availableBytes} />,
  },
  {
    name: 'Provisioned',
    by: ({ provisionedBytes = 0, capacityBytes }) => percent(provisionedBytes, capacityBytes),
    isNumber: true,
    cell: ({ provisionedBytes, capacityBytes }) =>
      provisionedBytes !== undefined && (
        <Badge tone={provisionedBytes > capacityBytes ? 'warn' : 'neutral'}>
          {percent(provisionedBytes, capacityBytes).toFixed(0)} %
        </Badge>
      ),
  },
  {
    name: 'Volumes',
    by: ({ volumeCount }) => volumeCount,
    isNumber: true,
    cell: ({ volumeCount }) => volumeCount.toLocaleString('en'),
  },
];

export function PoolTable({ pools }: { pools: readonly FleetPool[] }) {
  return (
    <DataTable label="Pools" rows={pools} keyOf={keyOf} columns={COLUMNS} empty="There are no pools yet." />
  );
}

export function Pools() {
  const { data = [], error, refetch } = useQuery(poolsQuery);
  const mayCreate = useOffers()('/pools#create');
  const [isOpen, setOpen] = useState(false);
  useAsked(mayCreate ? ['create'] : [], () => setOpen(true));
  return (
    <Page
      title="Pools"
      tools={
        mayCreate && (
          <Button look="primary" onPress={() => setOpen(true)}>
            New pool …
          </Button>
        )
      }
    >
      {error ? <Problem error={error} retry={() => void refetch()} /> : <PoolTable pools={data} />}
      {isOpen && <CreatePool close={() => setOpen(false)} />}
    </Page>
  );
}
