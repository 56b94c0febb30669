import { useEffect, useSyncExternalStore } from 'react';
import type { FleetEvent, FleetPool, Host, Job, JobDetails } from '../../../shared/protocol/api.ts';
import { client } from './queries.ts';

/** Changes are shown together, so often. */
const BATCH_MS = 100;
/** Tables are read again at most so often while their volumes change. */
const TABLES_MS = 300;

let isLive = false;
const listeners = new Set<() => void>();
function setLive(now: boolean): void {
  if (isLive === now) return;
  isLive = now;
  for (const listener of listeners) listener();
}

/** Whether changes arrive. */
export function useIsLive(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => isLive,
  );
}

/** Puts a row in its place, or takes it out. */
function patched<T>(
  rows: T[] | undefined,
  isIt: (row: T) => boolean,
  now: T | undefined,
  isFirst = false,
): T[] | undefined {
  if (!rows) return undefined;
  const index = rows.findIndex(isIt);
  if (index < 0) return now === undefined ? rows : isFirst ? [now, ...rows] : [...rows, now];
  return now === undefined ? rows.toSpliced(index, 1) : rows.with(index, now);
}

function apply(events: readonly FleetEvent[]): void {
  let volumesChanged = false;
  for (const event of events)
    switch (event.type) {
      case 'host': {
        const { host, now } = event;
        client.setQueryData<Host[]>(['hosts'], (rows) => patched(rows, ({ name }) => name === host, now));
        void client.invalidateQueries({ queryKey: ['host', host] });
        break;
      }
      case 'pool': {
        const { host, pool, now } = event;
        client.setQueryData<FleetPool[]>(['pools'], (rows) =>
          patched(rows, (row) => row.host === host && row.name === pool, now),
        );
        void client.invalidateQueries({ queryKey: ['pool', host, pool] });
        void client.invalidateQueries({ queryKey: ['trash', host, pool] });
        break;
      }
      case 'volume': {
        const key = [event.host, event.pool, event.volume];
        volumesChanged = true;
        void client.invalidateQueries({ queryKey: ['volume', ...key] });
        void client.invalidateQueries({ queryKey: ['snapshots', ...key] });
        break;
      }
      case 'job': {
        const { job, now } = event;
        client.setQueryData<JobDetails>(['job', job], (before) => now ?? before);
        for (const [key] of client.getQueriesData<Job[]>({ queryKey: ['jobs'] })) {
          const belongs = key[1] === 'all' || key[1] === now?.state;
          client.setQueryData<Job[]>(key, (rows) =>
            patched(rows, ({ id }) => id === job, belongs ? now : undefined, true),
          );
        }
        break;
      }
      case 'lost':
        void client.invalidateQueries();
        break;
    }
  if (events.some(({ type }) => type === 'host' || type === 'pool' || type === 'job'))
    void client.invalidateQueries({ queryKey: ['fleet'] });
  if (volumesChanged) readTablesAgain();
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

/** Follows the fleet while it is shown; after a cut it goes on from the last event that it has. */
export function useEvents(): void {
  useEffect(() => {
    let batch: FleetEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let wasCut = false;
    const source = new EventSource('/api/v1/events');
    source.onopen = () => {
      setLive(true);
      // Where no event had come there is no number to go on from.
      if (wasCut) void client.invalidateQueries();
      wasCut = false;
    };
    source.onerror = () => {
      setLive(false);
      wasCut = true;
      // The browser tries again by itself, unless it was refused: then it is looked whether the session has ended.
      if (source.readyState === EventSource.CLOSED) void client.invalidateQueries({ queryKey: ['fleet'] });
    };
    const take = ({ data }: MessageEvent<string>): void => {
      batch.push(JSON.parse(data) as FleetEvent);
      timer ??= setTimeout(() => {
        timer = undefined;
        const events = batch;
        batch = [];
        apply(events);
      }, BATCH_MS);
    };
    for (const type of ['host', 'pool', 'volume', 'domain', 'job', 'lost'] satisfies FleetEvent['type'][])
      source.addEventListener(type, take);
    return () => {
      source.close();
      clearTimeout(timer);
      setLive(false);
    };
  }, []);
}
