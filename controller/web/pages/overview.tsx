import { useQueries, useQuery } from '@tanstack/react-query';
import { Link } from 'react-aria-components';
import type { AttentionItem, FleetPool, Host } from '../../../shared/protocol/api.ts';
import { shownState } from '../../../shared/protocol/pool-state.ts';
import { usedShare } from '../../../shared/util/units.ts';
import { linkTo } from '../api/client.ts';
import { attentionQuery, fleetQuery, forecastQuery, hostsQuery, poolsQuery } from '../api/queries.ts';
import { useMay, WHOLE } from '../api/rights.ts';
import {
  A,
  Badge,
  Button,
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
import { counted, localTime } from '../parts/format.ts';
import { SpaceChart } from '../parts/space-chart.tsx';
import { actOnJob } from './jobs.tsx';

/** So few are shown with their names. */
const FEW = 60;
/** As many cells as a glance takes in. */
const MOST_CELLS = 3000;
const MOST_ITEMS = 50;

/** What has no place is the trail. */
function linkOf({ host, pool, job }: AttentionItem): string {
  if (job !== undefined) return linkTo.job(job);
  if (host === undefined) return '/audit';
  return pool === undefined ? linkTo.host(host) : linkTo.pool(host, pool);
}

function FullAt({ host, pool }: { host: string; pool: string }) {
  const { data } = useQuery(forecastQuery(host, pool));
  const fullAt = data?.data?.fullAt ?? data?.metadata?.fullAt;
  return fullAt === undefined ? null : <>, full {localTime(fullAt)} at this rate</>;
}

function Wanting({ item }: { item: AttentionItem }) {
  const { kind, severity, summary, reason, since, host, pool, job } = item;
  const may = useMay();
  return (
    <li>
      <Badge tone={severity === 'critical' ? 'bad' : 'warn'}>{severity}</Badge>
      <A to={linkOf(item)}>{summary}</A>
      <span className="why">
        {reason}
        {kind === 'pool-filling' && host && pool && <FullAt host={host} pool={pool} />}
        {since > 0 && (
          <>
            {reason && ', '}since <Time at={since} />
          </>
        )}
      </span>
      {kind === 'job-failed' && job !== undefined && may('job.dismiss', { host, pool }) && (
        <Button
          look="quiet"
          aria-label={`dismiss job ${job}`}
          onPress={async ({ target }) => {
            // The button goes; who works by keyboard is still in the list.
            const list = target.closest('ul');
            await actOnJob(job, 'dismiss');
            list?.focus();
          }}
        >
          Dismiss
        </Button>
      )}
    </li>
  );
}

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

function poolTone(pool: FleetPool): Tone {
  const state = shownState(pool);
  if (state === 'away' || state === 'inaccessible' || pool.fill === 'critical') return 'bad';
  if (pool.fill === 'warning') return 'warn';
  return state === 'running' ? 'good' : 'neutral';
}
const hostTone = ({ state }: Host): Tone =>
  state === 'reachable' ? 'good' : state === 'connecting' ? 'busy' : 'bad';

export function Overview() {
  const may = useMay();
  const fleet = useQuery(fleetQuery);
  const [hosts, pools] = useQueries({ queries: [hostsQuery, poolsQuery] });
  const attention = useQuery(attentionQuery);
  const items = attention.data ?? [];
  const error = fleet.error ?? attention.error ?? hosts.error ?? pools.error;
  const totals = fleet.data?.pools;
  return (
    <Page title="Overview">
      {error && (
        <Problem
          error={error}
          retry={() => {
            for (const query of [fleet, attention, hosts, pools]) void query.refetch();
          }}
        />
      )}
      <Section title="Needs attention">
        {attention.data?.length === 0 && <Empty>Nothing. All hosts answer, no pool is nearly full.</Empty>}
        <ul className="attention" tabIndex={-1}>
          {items.slice(0, MOST_ITEMS).map((item) => (
            <Wanting key={item.id} item={item} />
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
            name: `${pool.host}/${pool.name}: ${shownState(pool)}, ${usedShare(pool) ?? 0} % in use`,
            tone: poolTone(pool),
          }))}
        />
      </Section>
      {totals && (
        <Section title="Space">
          {may('fleet.history', WHOLE) && <SpaceChart path="/fleet/history" label="Space of all pools" />}
          <Fill label="Space in use" share={usedShare(totals)} />
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
