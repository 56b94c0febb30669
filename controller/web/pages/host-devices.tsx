import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useMemo, useState } from 'react';
import type { NodeDevice, NodeDevices } from '../../../shared/conf/node-device.ts';
import { call, hostPath, linkTo } from '../api/client.ts';
import { A, Button, Empty, Problem, Size } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Field } from '../parts/form.tsx';
import { counted } from '../parts/format.ts';

const columnsOf = (host: string): readonly ColumnOf<NodeDevice>[] => [
  { name: 'Device', by: ({ name }) => name, width: '2fr', cell: ({ name }) => <code>{name}</code> },
  { name: 'Kind', by: ({ kind }) => kind, cell: ({ kind }) => kind },
  {
    name: 'Size',
    by: ({ sizeBytes = -1 }) => sizeBytes,
    isNumber: true,
    cell: ({ sizeBytes }) => sizeBytes !== undefined && <Size bytes={sizeBytes} />,
  },
  { name: 'Holds', cell: ({ holds }) => holds },
  { name: 'Can be a pool of', cell: ({ poolTypes }) => poolTypes.join(', ') },
  { name: 'Pool', cell: ({ pool }) => pool && <A to={linkTo.pool(host, pool)}>{pool}</A> },
  {
    name: 'Model',
    cell: ({ model, serial, transport }) => [model, serial, transport].filter(Boolean).join(', '),
  },
];

/** Two types of pools may find one source, such as a target of iSCSI. */
const keyOf = ({ kind, name, poolTypes }: NodeDevice): string => [kind, name, ...poolTypes].join(' ');

/** What pools of a host could be made of: it is asked when somebody wants to know, for that is on record. */
export function HostDevices({ host }: { host: string }) {
  const [server, setServer] = useState('');
  const [asked, setAsked] = useState<{ server: string }>();
  const { data, error, isFetching, refetch } = useQuery({
    queryKey: ['devices', host, asked?.server],
    queryFn: ({ signal }) =>
      call<NodeDevices>(
        `${hostPath(host)}/devices${asked?.server ? `?server=${encodeURIComponent(asked.server)}` : ''}`,
        { signal },
      ),
    enabled: asked !== undefined,
    gcTime: 0,
    refetchOnReconnect: false,
    retry: false,
  });
  const columns = useMemo(() => columnsOf(host), [host]);
  const look = (event: FormEvent): void => {
    event.preventDefault();
    if (asked?.server === server) void refetch();
    else setAsked({ server });
  };
  return (
    <>
      <form className="filters" onSubmit={look}>
        <Field
          label="On a server"
          value={server}
          onChange={setServer}
          hint="what it gives out; when empty, what this host has"
        />
        <Button type="submit" isBusy={isFetching}>
          Look for devices
        </Button>
      </form>
      {error && <Problem error={error} />}
      {data?.problems.map((problem) => (
        <p className="why" key={problem}>
          {problem}
        </p>
      ))}
      {data && (
        <DataTable
          label="Devices"
          rows={data.devices}
          keyOf={keyOf}
          columns={columns}
          empty="There is nothing that a pool could be made of."
        />
      )}
      {data && <p role="status">{counted(data.devices.length, 'device')}</p>}
      {!asked && <Empty>Disks, adapters, volume groups, and what a server gives out.</Empty>}
    </>
  );
}
