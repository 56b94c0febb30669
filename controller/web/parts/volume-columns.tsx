import type { FleetVolume } from '../../../shared/protocol/api.ts';
import type { VolumeOrder } from '../../../shared/protocol/lists.ts';
import { linkTo, placeOfVolume, referenceOf } from '../api/client.ts';
import { A, Badge, Size, Time } from './basics.tsx';

export interface GridColumn {
  id: string;
  name: string;
  order?: VolumeOrder;
  isNumber?: boolean;
  widthPx: number;
  cell(volume: FleetVolume): React.ReactNode;
}

const stateOf = ({ damaged, isBase, isProtected }: FleetVolume) => (
  <>
    {damaged !== undefined && <Badge tone="bad">damaged</Badge>}
    {isBase && <Badge tone="neutral">base</Badge>}
    {isProtected && <Badge tone="good">protected</Badge>}
  </>
);

export const keyOfVolume = (volume: FleetVolume): string => referenceOf(placeOfVolume(volume));

export const GRID_COLUMNS: readonly GridColumn[] = [
  {
    id: 'name',
    name: 'Name',
    order: 'name',
    widthPx: 260,
    cell: (volume) => <A to={linkTo.volume(placeOfVolume(volume))}>{volume.name}</A>,
  },
  { id: 'pool', name: 'Pool', order: 'place', widthPx: 160, cell: ({ host, pool }) => `${host}/${pool}` },
  { id: 'format', name: 'Format', widthPx: 80, cell: ({ format }) => format },
  {
    id: 'capacity',
    name: 'Capacity',
    order: 'capacityBytes',
    isNumber: true,
    widthPx: 100,
    cell: ({ capacityBytes }) => <Size bytes={capacityBytes} />,
  },
  {
    id: 'allocation',
    name: 'On disk',
    order: 'allocationBytes',
    isNumber: true,
    widthPx: 100,
    cell: ({ allocationBytes }) => <Size bytes={allocationBytes} />,
  },
  {
    id: 'changed',
    name: 'Changed',
    order: 'modifiedAt',
    widthPx: 130,
    cell: ({ timestamps }) => timestamps && <Time at={Number(timestamps.mtime) * 1000} />,
  },
  {
    id: 'snapshots',
    name: 'Snapshots',
    isNumber: true,
    widthPx: 100,
    cell: ({ snapshotCount }) => snapshotCount,
  },
  { id: 'state', name: 'State', widthPx: 140, cell: stateOf },
];
