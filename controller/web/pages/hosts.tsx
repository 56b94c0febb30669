import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import type { Host } from '../../../shared/protocol/api.ts';
import { linkTo } from '../api/client.ts';
import { hostsQuery } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import { useAsked } from '../parts/asked.ts';
import { A, Badge, Button, Page, Problem, Time, type Tone } from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { AddHost } from '../tasks/add-host.tsx';

export const HOST_TONES: Record<Host['state'], Tone> = {
  reachable: 'good',
  connecting: 'busy',
  unreachable: 'bad',
};

export function linkText({ link }: Host): string {
  switch (link.kind) {
    case 'ssh':
      return `ssh ${link.user}@${link.hostname}${link.port === 22 ? '' : `:${link.port}`}`;
    case 'local':
      return 'this machine';
    case 'websocket':
      return link.enrolled ? 'dials in' : 'waits for its agent';
  }
}

const nameOf = ({ name }: Host): string => name;
const COLUMNS: readonly ColumnOf<Host>[] = [
  { name: 'Host', by: nameOf, cell: ({ name }) => <A to={linkTo.host(name)}>{name}</A> },
  {
    name: 'State',
    by: ({ state }) => state,
    cell: ({ state }) => <Badge tone={HOST_TONES[state]}>{state}</Badge>,
  },
  { name: 'Since', by: ({ since }) => since, cell: ({ since }) => <Time at={since} /> },
  { name: 'Link', by: linkText, width: '2fr', cell: linkText },
  { name: 'Labels', cell: ({ labels }) => labels.join(' ') },
  { name: 'Reason', width: '2fr', cell: ({ reason }) => <span title={reason}>{reason}</span> },
];

export function Hosts() {
  const { data = [], error, refetch } = useQuery(hostsQuery);
  const [isOpen, setOpen] = useState(false);
  const may = useMay();
  useAsked(may('host.add', WHOLE) ? ['add'] : [], () => setOpen(true));
  return (
    <Page
      title="Hosts"
      tools={
        may('host.add', WHOLE) && (
          <Button look="primary" onPress={() => setOpen(true)}>
            Add a host …
          </Button>
        )
      }
    >
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable
          label="Hosts"
          rows={data}
          keyOf={nameOf}
          columns={COLUMNS}
          empty="There are no hosts yet."
        />
      )}
      {isOpen && <AddHost close={() => setOpen(false)} />}
    </Page>
  );
}
