import { useEffect } from 'react';
import type { FleetEvent, FleetPool, Host, Job, JobDetails } from '../../../shared/protocol/api.ts';
import { SharedValue, useShared } from '../parts/shared-value.ts';
import { client, MOST_JOBS } from './queries.ts';

/** Changes are shown together, so often. */
const BATCH_MS = 100;
/** Tables are read again at most so often while their volumes change. */
const TABLES_MS = 300;

const live = new SharedValue(false);

/** Whether changes arrive. */
export const useIsLive = (): boolean => useShared(live);

/** A list with what has changed of it: rows by their keys, undefined for those that are gone. Those that are new come last, or first. */
function patched<T>(
  rows: T[] | undefined,
  keyOf: (row: T) => string,
  changes: ReadonlyMap<string, T | undefined>,
  isNewFirst = false,
): T[] | undefined {
  if (!rows || changes.size === 0) return rows;
  const left = new Map(changes);
  const kept = rows.flatMap((row) => {
    const key = keyOf(row);
    if (!left.has(key)) return [row];
    const now = left.get(key);
    left.delete(key);
    return now === undefined ? [] : [now];
  });
  const made = [...left.values()].filter((row) => row !== undefined);
  return isNewFirst ? [...made.toReversed(), ...kept] : [...kept, ...made];
}

const nameOfHost = ({ name }: Host): string => name;
const nameOfPool = ({ host, name }: FleetPool): string => `${host}/${name}`;
const numberOfJob = ({ id }: Job): string => String(id);
/** A list that was being read when something of it changed may lack that: it is read again after so long. */
const AGAIN_MS = 3000;

function patchList<T>(
  key: readonly string[],
  keyOf: (row: T) => string,
  changes: ReadonlyMap<string, T | undefined>,
): void {
  if (changes.size === 0) return;
  client.setQueryData<T[]>(key, (rows) => patched(rows, keyOf, changes));
  if (client.isFetching({ queryKey: key, exact: true }) > 0)
    setTimeout(() => void client.invalidateQueries({ queryKey: key, exact: true }), AGAIN_MS);
}

function setHostState(host: string, hostState: Host['state']): void {
  const set = (pool: FleetPool): FleetPool =>
    pool.host === host && pool.hostState !== hostState ? { ...pool, hostState } : pool;
  client.setQueryData<FleetPool[]>(['pools'], (rows) => rows?.map(set));
  void client.invalidateQueries({ queryKey: ['pool', host] });
}

function apply(events: readonly FleetEvent[]): void {
  const hosts = new Map<string, Host | undefined>();
  const pools = new Map<string, FleetPool | undefined>();
  const jobs = new Map<string, JobDetails | undefined>();
  /** Pools of volumes that have changed, `host/pool`. */
  const changed = new Set<string>();
  for (const event of events)
    switch (event.type) {
      case 'host':
        hosts.set(event.host, event.now);
        void client.invalidateQueries({ queryKey: ['host', event.host] });
        break;
      case 'pool':
        pools.set(`${event.host}/${event.pool}`, event.now);
        void client.invalidateQueries({ queryKey: ['pool', event.host, event.pool] });
        void client.invalidateQueries({ queryKey: ['trash', event.host, event.pool] });
        break;
      case 'volume': {
        const key = [event.host, event.pool, event.volume];
        // What stands on what is within a pool.
        changed.add(`${event.host}/${event.pool}`);
        void client.invalidateQueries({ queryKey: ['snapshots', ...key] });
        break;
      }
      case 'job':
        jobs.set(String(event.job), event.now);
        // Only of one that somebody looks at, or has.
        client.setQueryData<JobDetails>(['job', event.job], (before) => before && (event.now ?? before));
        break;
      case 'lost':
        readAgain();
        break;
    }
  patchList(['hosts'], nameOfHost, hosts);
  // Their pools are told of only when they change themselves.
  for (const [host, now] of hosts) if (now) setHostState(host, now.state);
  patchList(['pools'], nameOfPool, pools);
  for (const [key] of client.getQueriesData<Job[]>({ queryKey: ['jobs'] })) {
    const belongs = new Map(
      [...jobs].map(
        ([id, now]) => [id, key[1] === 'all' || key[1] === now?.state ? now : undefined] as const,
      ),
    );
    client.setQueryData<Job[]>(key, (rows) => patched(rows, numberOfJob, belongs, true)?.slice(0, MOST_JOBS));
  }
  if (hosts.size + pools.size + jobs.size > 0) void client.invalidateQueries({ queryKey: ['fleet'] });
  for (const place of changed) void client.invalidateQueries({ queryKey: ['volume', ...place.split('/')] });
  if (changed.size > 0) readTablesAgain();
}

/** What is asked of hosts, or whose reading is on record, is read again only when somebody asks. */
const ASKED = new Set(['audit', 'orphans', 'devices', 'doctor', 'actions']);
function readAgain(): void {
  void client.invalidateQueries({ predicate: ({ queryKey: [name] }) => !ASKED.has(String(name)) });
}

let isReadingAgain = false;
/** Something has changed since the tables were asked for. */
let changedMeanwhile = false;
function readTablesAgain(): void {
  changedMeanwhile = true;
  if (isReadingAgain) return;
  isReadingAgain = true;
  setTimeout(async () => {
    changedMeanwhile = false;
    // One that is on its way is not cut off: else a table would stand still as long as volumes change.
    const options = { cancelRefetch: false };
    await Promise.allSettled([
      client.invalidateQueries({ queryKey: ['volume-rows'] }, options),
      client.invalidateQueries({ queryKey: ['volume-count'] }, options),
    ]);
    isReadingAgain = false;
    if (changedMeanwhile) readTablesAgain();
  }, TABLES_MS);
}

/** What the tab that reads the events tells the others. */
type Told = { event: FleetEvent } | { isLive: boolean } | { isClosed: true } | { isAsked: true };

/**
 * Follows the fleet while it is shown; after a cut it goes on from the last event that it has. Of all tabs one reads, and tells the others:
 * browsers keep few connections to a host.
 */
export function useEvents(): void {
  useEffect(() => {
    const gone = new AbortController();
    const channel = new BroadcastChannel('stowage-events');
    let batch: FleetEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isReader = false;
    const heard = (told: Told): void => {
      if ('isAsked' in told) {
        if (isReader) channel.postMessage({ isLive: live.now } satisfies Told);
      } else if ('isClosed' in told) {
        // It was refused: then it is looked whether the session has ended.
        void client.invalidateQueries({ queryKey: ['fleet'] });
      } else if ('isLive' in told) {
        // What came before is in no event that will come.
        if (told.isLive && !live.now) readAgain();
        live.set(told.isLive);
      } else {
        batch.push(told.event);
        timer ??= setTimeout(() => {
          timer = undefined;
          const events = batch;
          batch = [];
          apply(events);
        }, BATCH_MS);
      }
    };
    channel.onmessage = ({ data }) => heard(data as Told);
    channel.postMessage({ isAsked: true } satisfies Told);
    const tell = (told: Told): void => {
      channel.postMessage(told);
      heard(told);
    };
    const read = (): Promise<void> =>
      new Promise((resolve) => {
        isReader = true;
        let source: EventSource | undefined;
        let again: ReturnType<typeof setTimeout> | undefined;
        const open = (): void => {
          source = new EventSource('/api/v1/events');
          source.onopen = () => tell({ isLive: true });
          source.onerror = () => {
            tell({ isLive: false });
            if (source?.readyState !== EventSource.CLOSED) return;
            tell({ isClosed: true });
            // The browser tries no more by itself.
            again = setTimeout(open, AGAIN_MS);
          };
          const take = ({ data }: MessageEvent): void =>
            tell({ event: JSON.parse(data as string) as FleetEvent });
          for (const type of [
            'host',
            'pool',
            'volume',
            'domain',
            'job',
            'lost',
          ] satisfies FleetEvent['type'][])
            source.addEventListener(type, take);
        };
        // What came since the last reader was closed is in no event that will come: all read again when this one is open.
        tell({ isLive: false });
        open();
        gone.signal.addEventListener('abort', () => {
          clearTimeout(again);
          source?.close();
          isReader = false;
          resolve();
        });
      });
    // The next tab reads when this one is closed.
    navigator.locks.request('stowage-events', { signal: gone.signal }, read).catch(() => undefined);
    return () => {
      gone.abort();
      channel.close();
      clearTimeout(timer);
      live.set(false);
    };
  }, []);
}
