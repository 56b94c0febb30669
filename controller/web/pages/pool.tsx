import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Tab, TabList, TabPanel, Tabs } from 'react-aria-components';
import type { Orphan } from '../../../shared/conf/orphan.ts';
import { DEFAULT_LIMITS, limitsText } from '../../../shared/conf/pool-limits.ts';
import type { Forecast } from '../../../shared/conf/pool-usage.ts';
import type { TrashedVolume } from '../../../shared/conf/trash.ts';
import type { PoolDetails } from '../../../shared/protocol/api.ts';
import { isUp, shownState } from '../../../shared/protocol/pool-state.ts';
import { usedShare } from '../../../shared/util/units.ts';
import { call, linkTo, poolPath } from '../api/client.ts';
import { client, forecastQuery, poolQuery, trashQuery } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { A, Button, Empty, Facts, Fill, Page, Problem, Section, Size, Time } from '../parts/basics.tsx';
import { formatBytes, localTime, percent } from '../parts/format.ts';
import { SpaceChart } from '../parts/space-chart.tsx';
import { toast } from '../parts/toasts.tsx';
import { DeletePool, LimitPool, PurgeTrashed, StopPool } from '../tasks/pool-tasks.tsx';
import { PoolState } from './pools.tsx';
import { VolumeTable } from './volumes.tsx';

const rate = ({ bytesPerDay, errorBytesPerDay }: Forecast): string =>
  `${bytesPerDay < 0 ? '−' : '+'}${formatBytes(Math.round(Math.abs(bytesPerDay)))} a day, ± ${formatBytes(Math.round(errorBytesPerDay))}`;

function Space({ pool }: { pool: PoolDetails }) {
  const { data } = useQuery(forecastQuery(pool.host, pool.name));
  const { limits, metadata, provisionedBytes, sameStorage, source, target } = pool;
  return (
    <Section title="Space">
      <SpaceChart
        path={`${poolPath({ host: pool.host, pool: pool.name })}/history`}
        label="Space of the pool"
      />
      <Fill label="Space in use" share={usedShare(pool)} fill={pool.fill} />
      <Facts
        rows={[
          ['Capacity', <Size key="c" bytes={pool.capacityBytes} />],
          ['In use', <Size key="a" bytes={pool.allocationBytes} />],
          ['Available', <Size key="v" bytes={pool.availableBytes} />],
          provisionedBytes !== undefined && [
            'Promised to volumes',
            <Size key="p" bytes={provisionedBytes} />,
          ],
          metadata && [
            'Metadata',
            <Fill
              key="m"
              label="Metadata in use"
              share={percent(metadata.allocationBytes, metadata.capacityBytes)}
            />,
          ],
          data?.data && ['Rate', rate(data.data)],
          data?.data?.fullAt !== undefined && ['Full, at this rate', localTime(data.data.fullAt)],
          ['Limits', limitsText(limits ?? DEFAULT_LIMITS)],
          target.path !== undefined && ['Target', <code key="t">{target.path}</code>],
          source.hosts.length > 0 && ['From', source.hosts.map(({ name }) => name).join(', ')],
          sameStorage.length > 0 && [
            'The same storage',
            sameStorage.map((other) => {
              const [host = '', name = ''] = other.split('/');
              return (
                <A key={other} to={linkTo.pool(host, name)}>
                  {other}
                </A>
              );
            }),
          ],
          pool.managedBy && ['Managed by', 'Proxmox VE'],
        ]}
      />
    </Section>
  );
}

function Trash({ pool }: { pool: PoolDetails }) {
  const [purged, setPurged] = useState<TrashedVolume>();
  return (
    <>
      <TrashList pool={pool} purge={setPurged} />
      {purged && <PurgeTrashed pool={pool} trashed={purged} close={() => setPurged(undefined)} />}
    </>
  );
}

function TrashList({ pool, purge }: { pool: PoolDetails; purge(trashed: TrashedVolume): void }) {
  const { host, name } = pool;
  const { data, error, refetch } = useQuery(trashQuery(host, name));
  const may = useMay();
  const path = `${poolPath({ host, pool: name })}/trash`;
  const act = async (trashed: TrashedVolume, work: () => Promise<unknown>, done: string): Promise<void> => {
    try {
      await work();
      toast(`${trashed.volume.name} ${done}`);
    } catch (failure) {
      toast(`${trashed.volume.name}: ${(failure as Error).message}`, true);
    }
    await refetch();
  };
  if (error) return <Problem error={error} retry={() => void refetch()} />;
  if (!data) return <Empty>Asking the host …</Empty>;
  if (data.length === 0) return <Empty>The trash is empty.</Empty>;
  return (
    <ul className="list">
      {data.map((trashed) => (
        <li key={trashed.id}>
          <span>{trashed.volume.name}</span>
          <Size bytes={trashed.volume.allocationBytes} />
          <span className="why">
            deleted <Time at={trashed.trashedAt} />
            {trashed.by && ` by ${trashed.by}`}, kept until {localTime(trashed.keepUntil)}
          </span>
          <span className="tools">
            {may('trash.restore', { host, pool: name }) && (
              <Button
                onPress={() =>
                  void act(
                    trashed,
                    () => call(`${path}/${trashed.id}/restore`, { method: 'POST', json: {} }),
                    'is back',
                  )
                }
              >
                Restore
              </Button>
            )}
            {may('trash.purge', { host, pool: name }) && (
              <Button
                look="quiet"
                aria-label={`Delete ${trashed.volume.name} for ever`}
                onPress={() => purge(trashed)}
              >
                Delete …
              </Button>
            )}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** Who has more of them needs no list. */
const MOST_LEFTOVERS = 500;

type FoundOrphan = Orphan & { madeBy?: string };

function Leftovers({ pool }: { pool: PoolDetails }) {
  const { host, name } = pool;
  const [asked, setAsked] = useState(false);
  const may = useMay();
  const { data, error, isFetching } = useQuery({
    queryKey: ['orphans', host, name],
    queryFn: ({ signal }) => call<FoundOrphan[]>(`${poolPath({ host, pool: name })}/orphans`, { signal }),
    enabled: asked,
    retry: false,
  });
  if (error) return <Problem error={error} />;
  if (!may('pool.orphans', { host, pool: name })) return <Empty>Operators may look for them.</Empty>;
  if (!asked) return <Button onPress={() => setAsked(true)}>Look for leftovers</Button>;
  if (isFetching || !data) return <Empty>Looking …</Empty>;
  if (data.length === 0) return <Empty>Nothing but volumes and what belongs to them.</Empty>;
  return (
    <ul className="list">
      {data.slice(0, MOST_LEFTOVERS).map(({ path, what, madeBy, modifiedAt, allocationBytes, users }) => (
        <li key={path}>
          <code className="breaks">{path}</code>
          {allocationBytes !== undefined && <Size bytes={allocationBytes} />}
          <span className="why">
            {what}
            {madeBy && `, made by ${madeBy}`}
            {users.length > 0 && `, used by ${users.join(', ')}`}
            {modifiedAt !== undefined && (
              <>
                , changed <Time at={modifiedAt} />
              </>
            )}
          </span>
        </li>
      ))}
      {data.length > MOST_LEFTOVERS && (
        <li>
          and {data.length - MOST_LEFTOVERS} more: <code>{`stowage pool orphans ${host}/${name}`}</code>
        </li>
      )}
    </ul>
  );
}

const LIFECYCLE = [
  ['start', 'Start'],
  ['refresh', 'Refresh'],
  ['stop', 'Stop'],
] as const;

export function Pool({ host, name }: { host: string; name: string }) {
  const { data: pool, error, refetch } = useQuery(poolQuery(host, name));
  const [open, setOpen] = useState<'stop' | 'delete' | 'limits'>();
  const may = useMay();
  const crumbs = <A to={linkTo.host(host)}>{host}</A>;
  if (!pool)
    return (
      <Page title={name} crumbs={crumbs}>
        {error ? <Problem error={error} retry={() => void refetch()} /> : <Empty>Loading …</Empty>}
      </Page>
    );
  const act = async (what: string): Promise<void> => {
    try {
      await call(`${poolPath({ host, pool: name })}/${what}`, { method: 'POST', json: {} });
      await client.invalidateQueries({ queryKey: ['pool', host, name] });
      toast(`${host}/${name}: ${what === 'start' ? 'started' : 'refreshed'}`);
    } catch (failure) {
      toast((failure as Error).message, true);
    }
  };
  const isRunning = isUp(pool);
  const isAway = shownState(pool) === 'away';
  const offered = LIFECYCLE.filter(
    ([what]) =>
      !isAway && may(`pool.${what}`, { host, pool: name }) && (what === 'start' ? !isRunning : isRunning),
  );
  return (
    <Page
      title={`${name}`}
      crumbs={crumbs}
      tools={
        <>
          {offered.map(([what, label]) => (
            <Button key={what} onPress={() => (what === 'stop' ? setOpen('stop') : void act(what))}>
              {what === 'stop' ? `${label} …` : label}
            </Button>
          ))}
          {!isAway && may('pool.limit', { host, pool: name }) && (
            <Button onPress={() => setOpen('limits')}>Limits …</Button>
          )}
          {!isAway &&
            pool.state === 'inactive' &&
            pool.managedBy === undefined &&
            may('pool.delete', { host }) && (
              <Button look="danger" onPress={() => setOpen('delete')}>
                Delete …
              </Button>
            )}
        </>
      }
    >
      <p>
        {pool.type} <PoolState pool={pool} /> {pool.reason && <span className="why">{pool.reason}</span>}
        {isAway && (
          <span className="why">
            Its host <A to={linkTo.host(host)}>{host}</A> does not answer: all of this is as it was told last.
          </span>
        )}
      </p>
      {open === 'stop' && <StopPool pool={pool} close={() => setOpen(undefined)} />}
      {open === 'limits' && <LimitPool pool={pool} close={() => setOpen(undefined)} />}
      {open === 'delete' && <DeletePool pool={pool} close={() => setOpen(undefined)} />}
      <Tabs className="tabs">
        <TabList aria-label="Of this pool" className="tab-list">
          <Tab id="volumes">Volumes</Tab>
          <Tab id="space">Space</Tab>
          <Tab id="trash">Trash{pool.trash ? ` (${pool.trash.volumeCount})` : ''}</Tab>
          <Tab id="leftovers">Leftovers</Tab>
        </TabList>
        <TabPanel id="volumes">
          <VolumeTable host={host} pool={name} />
        </TabPanel>
        <TabPanel id="space">
          <Space pool={pool} />
        </TabPanel>
        <TabPanel id="trash">
          <Trash pool={pool} />
        </TabPanel>
        <TabPanel id="leftovers">
          <Leftovers pool={pool} />
        </TabPanel>
      </Tabs>
    </Page>
  );
}
