import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import type { NodeDevice, NodeDevices } from '../../../shared/conf/node-device.ts';
import { call, hostPath, linkTo } from '../api/client.ts';
import { A, Button, Empty, Problem, Size } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Field } from '../parts/form.tsx';

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
    staleTime: 0,
    gcTime: 0,
    retry: false,
  });
  const look = (event: FormEvent): void => {
    event.preventDefault();
    if (asked?.server === server) void refetch();
    else setAsked({ server });
  };
  return (
    <>
      <form className="filters" onSubmit={look}>
        <Field
          label="On a server, too"
          value={server}
          onChange={setServer}
          placeholder="its name or address; may be empty"
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
          keyOf={({ kind, name }) => `${kind} ${name}`}
          columns={columnsOf(host)}
          empty="There is nothing that a pool could be made of."
        />
      )}
      {!asked && <Empty>Disks, adapters, volume groups, and what a server gives out.</Empty>}
    </>
  );
}
