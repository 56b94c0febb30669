import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { doctorQuery, hostQuery, usePools } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import { Badge, Button, Empty, Facts, Page, Problem, Section, Time } from '../parts/basics.tsx';
import { CreatePool } from '../tasks/create-pool.tsx';
import { LabelHost, RemoveHost } from '../tasks/host-tasks.tsx';
import { HostDevices } from './host-devices.tsx';
import { HOST_TONES, linkText } from './hosts.tsx';
import { PoolTable } from './pools.tsx';

function Doctor({ host }: { host: string }) {
  const { data, error, refetch } = useQuery(doctorQuery(host));
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!data) return <Empty>Asking the host …</Empty>;
  return (
    <ul className="list">
      {data.map(({ name, ok, detail, remedy }) => (
        <li key={name}>
          <span>
            {!ok && <Badge tone="warn">missing</Badge>} {name}
          </span>
          <span className="why">
            {detail}
            {remedy && (
              <>
                : <code>{remedy}</code>
              </>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}

export function HostPage({ name }: { name: string }) {
  const { data: host, error, refetch } = useQuery(hostQuery(name));
  const pools = usePools().filter((pool) => pool.host === name);
  const [open, setOpen] = useState<'remove' | 'pool' | 'labels'>();
  const may = useMay();
  if (!host)
    return (
      <Page title={name}>
        {error ? <Problem error={error} retry={() => void refetch()} /> : <Empty>Loading …</Empty>}
      </Page>
    );
  const { agent } = host;
  return (
    <Page
      title={host.name}
      tools={
        <>
          {may('host.label', WHOLE) && <Button onPress={() => setOpen('labels')}>Labels …</Button>}
          {may('host.remove', { host: name }) && (
            <Button look="danger" onPress={() => setOpen('remove')}>
              Remove …
            </Button>
          )}
        </>
      }
    >
      <div className="columns-2">
        <Section title="Facts">
          <Facts
            rows={[
              [
                'State',
                <span key="s">
                  <Badge tone={HOST_TONES[host.state]}>{host.state}</Badge> <Time at={host.since} />
                </span>,
              ],
              host.reason !== undefined && ['Reason', host.reason],
              ['Link', linkText(host)],
              host.link.kind === 'ssh' && ['Host key', <code key="k">{host.link.fingerprint}</code>],
              host.labels.length > 0 && ['Labels', host.labels.join(' ')],
              agent && ['Agent', `${agent.version}, process ${agent.pid} on ${agent.hostname}`],
            ]}
          />
        </Section>
        <Section title="What works there">
          {host.state === 'reachable' ? <Doctor host={name} /> : <Empty>The host cannot be asked now.</Empty>}
        </Section>
      </div>
      <Section
        title="Pools"
        tools={
          host.state === 'reachable' &&
          may('pool.create', { host: name }) && <Button onPress={() => setOpen('pool')}>New pool …</Button>
        }
      >
        <PoolTable pools={pools} />
      </Section>
      {host.state === 'reachable' && may('host.devices', { host: name }) && (
        <Section title="What pools could be made of">
          <HostDevices host={name} />
        </Section>
      )}
      {open === 'remove' && <RemoveHost name={name} close={() => setOpen(undefined)} />}
      {open === 'labels' && <LabelHost host={host} close={() => setOpen(undefined)} />}
      {open === 'pool' && <CreatePool host={name} close={() => setOpen(undefined)} />}
    </Page>
  );
}
