import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { call, hostPath } from '../api/client.ts';
import { doctorQuery, hostQuery, usePools } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { Badge, Button, Empty, Facts, Page, Problem, Section, Time } from '../parts/basics.tsx';
import { Task } from '../parts/dialog.tsx';
import { toast } from '../parts/toasts.tsx';
import { CreatePool } from '../tasks/create-pool.tsx';
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

function RemoveHost({ name, close }: { name: string; close(): void }) {
  const [, navigate] = useLocation();
  return (
    <Task
      title={`Remove the host ${name}`}
      verb="Remove"
      isDanger
      close={close}
      toType={{ what: 'the name', text: name }}
      run={async () => {
        await call(hostPath(name), { method: 'DELETE' });
        toast(`host ${name} is forgotten`);
        navigate('/hosts');
      }}
    >
      <p>
        The controller forgets it. Nothing on the host is touched: its pools, its volumes and its agent stay.
      </p>
    </Task>
  );
}

export function HostPage({ name }: { name: string }) {
  const { data: host, error, refetch } = useQuery(hostQuery(name));
  const pools = usePools().filter((pool) => pool.host === name);
  const [open, setOpen] = useState<'remove' | 'pool'>();
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
        may('host.remove', { host: name }) && (
          <Button look="danger" onPress={() => setOpen('remove')}>
            Remove …
          </Button>
        )
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
      {open === 'remove' && <RemoveHost name={name} close={() => setOpen(undefined)} />}
      {open === 'pool' && <CreatePool host={name} close={() => setOpen(undefined)} />}
    </Page>
  );
}
