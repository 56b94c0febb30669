import { useQueries, useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { Link } from 'react-aria-components';
import type { FleetPool, Host, Job } from '../../../shared/protocol/api.ts';
import { linkTo } from '../api/client.ts';
import { fleetQuery, forecastQuery, hostsQuery, jobsQuery, poolsQuery } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import {
  A,
  Badge,
  Empty,
  Facts,
  Fill,
  Page,
  Problem,
  Section,
  Size,
  Time,
  type Tone,
} from '../parts/basics.tsx';
import { counted, localTime, percent } from '../parts/format.ts';
import { SpaceChart } from '../parts/space-chart.tsx';

const DAY_MS = 24 * 3600_000;
/** So few are shown with their names. */
const FEW = 60;
/** As many cells as a glance takes in. */
const MOST_CELLS = 3000;
const MOST_ITEMS = 50;

interface Item {
  key: string;
  tone: Tone;
  label: string;
  what: ReactNode;
  why: ReactNode;
}

const ofHost = ({ name, link, state, reason, since }: Host): Item => ({
  key: `host ${name}`,
  tone: state === 'connecting' ? 'busy' : 'bad',
  label: state,
  what: <A to={linkTo.host(name)}>host {name}</A>,
  why: (
    <>
      {reason ?? (link.kind === 'websocket' && !link.enrolled ? 'its agent has not dialled in yet' : state)},
      since <Time at={since} />
    </>
  ),
});

const ofJob = ({ id, kind, state, target, error, endedAt }: Job): Item => ({
  key: `job ${id}`,
  tone: state === 'failed' ? 'bad' : 'warn',
  label: state,
  what: (
    <A to={linkTo.job(id)}>
      {kind} {target}
    </A>
  ),
  why: (
    <>
      {error?.message}
      {endedAt !== undefined && (
        <>
          , <Time at={endedAt} />
        </>
      )}
    </>
  ),
});

function PoolFill({ pool }: { pool: FleetPool }) {
  const { data } = useQuery(forecastQuery(pool.host, pool.name));
  const fullAt = data?.data?.fullAt ?? data?.metadata?.fullAt;
  return (
    <>
      {percent(pool.allocationBytes, pool.capacityBytes).toFixed(0)} % in use,{' '}
      <Size bytes={pool.availableBytes} /> left
      {fullAt !== undefined && <>, full {localTime(fullAt)} at this rate</>}
    </>
  );
}

const ofPool = (pool: FleetPool): Item => {
  const isFull = pool.state === 'running';
  return {
    key: `pool ${pool.host}/${pool.name}`,
    tone: isFull && pool.fill !== 'critical' ? 'warn' : 'bad',
    label: isFull ? 'nearly full' : pool.state,
    what: (
      <A to={linkTo.pool(pool.host, pool.name)}>
        pool {pool.host}/{pool.name}
      </A>
    ),
    why: isFull ? <PoolFill pool={pool} /> : (pool.reason ?? 'it is not started'),
  };
};

const needsAttention = ({ state, fill, autostart }: FleetPool): boolean =>
  state === 'inaccessible' ||
  (state === 'inactive' && autostart) ||
  fill === 'warning' ||
  fill === 'critical';

/** One cell for each of many things: what is wrong is seen before it is read. */
function Strip({
  label,
  cells,
}: {
  label: string;
  cells: { key: string; to: string; name: string; tone: Tone }[];
}) {
  if (cells.length === 0) return <Empty>none yet</Empty>;
  return (
    <ul className="strip" aria-label={label}>
      {cells.slice(0, MOST_CELLS).map(({ key, to, name, tone }) => (
        <li key={key}>
          <Link href={to} className={`cell ${tone}`} aria-label={name}>
            {cells.length <= FEW && key}
          </Link>
        </li>
      ))}
      {cells.length > MOST_CELLS && <li>and {cells.length - MOST_CELLS} more</li>}
    </ul>
  );
}

const poolTone = ({ state, fill }: FleetPool): Tone =>
  state === 'inaccessible' || fill === 'critical'
    ? 'bad'
    : fill === 'warning'
      ? 'warn'
      : state === 'running'
        ? 'good'
        : 'neutral';
const hostTone = ({ state }: Host): Tone =>
  state === 'reachable' ? 'good' : state === 'connecting' ? 'busy' : 'bad';

export function Overview() {
  const may = useMay();
  const fleet = useQuery(fleetQuery);
  const [hosts, pools] = useQueries({ queries: [hostsQuery, poolsQuery] });
  const failed = useQuery(jobsQuery({ state: 'failed' }));
  const waiting = useQuery(jobsQuery({ state: 'waiting' }));
  const error = fleet.error ?? hosts.error ?? pools.error;
  const recent = Date.now() - DAY_MS;
  const items = [
    ...(hosts.data ?? []).filter(({ state }) => state !== 'reachable').map(ofHost),
    ...(pools.data ?? []).filter(needsAttention).map(ofPool),
    ...(failed.data ?? []).filter(({ endedAt = 0 }) => endedAt > recent).map(ofJob),
    ...(waiting.data ?? []).map(ofJob),
  ];
  const totals = fleet.data?.pools;
  return (
    <Page title="Overview">
      {error && <Problem error={error} retry={() => void fleet.refetch()} />}
      <Section title="Needs attention">
        {items.length === 0 && hosts.data && pools.data && (
          <Empty>Nothing. All hosts answer, no pool is nearly full.</Empty>
        )}
        <ul className="attention">
          {items.slice(0, MOST_ITEMS).map(({ key, tone, label, what, why }) => (
            <li key={key}>
              <Badge tone={tone}>{label}</Badge>
              <span>{what}</span>
              <span className="why">{why}</span>
            </li>
          ))}
          {items.length > MOST_ITEMS && <li>and {items.length - MOST_ITEMS} more</li>}
        </ul>
      </Section>
      <Section title="Hosts">
        <Strip
          label="Hosts"
          cells={(hosts.data ?? []).map((host) => ({
            key: host.name,
            to: linkTo.host(host.name),
            name: `${host.name}: ${host.state}`,
            tone: hostTone(host),
          }))}
        />
      </Section>
      <Section title="Pools">
        <Strip
          label="Pools"
          cells={(pools.data ?? []).map((pool) => ({
            key: `${pool.host}/${pool.name}`,
            to: linkTo.pool(pool.host, pool.name),
            name: `${pool.host}/${pool.name}: ${pool.state}, ${percent(pool.allocationBytes, pool.capacityBytes).toFixed(0)} % in use`,
            tone: poolTone(pool),
          }))}
        />
      </Section>
      {totals && (
        <Section title="Space">
          {may('fleet.history', WHOLE) && <SpaceChart path="/fleet/history" label="Space of all pools" />}
          <Fill label="Space in use" used={totals.allocationBytes} whole={totals.capacityBytes} />
          <Facts
            rows={[
              ['Capacity', <Size key="c" bytes={totals.capacityBytes} />],
              ['In use', <Size key="a" bytes={totals.allocationBytes} />],
              ['Available', <Size key="v" bytes={totals.availableBytes} />],
              ['Volumes', counted(totals.volumeCount, 'volume')],
            ]}
          />
        </Section>
      )}
    </Page>
  );
}
