import { keepPreviousData, QueryClient, queryOptions, useQuery } from '@tanstack/react-query';
import type { PoolForecast } from '../../../shared/conf/pool-usage.ts';
import type { TrashedVolume } from '../../../shared/conf/trash.ts';
import type { Snapshot } from '../../../shared/conf/volume.ts';
import type {
  ActionDescription,
  AttentionItem,
  AuditRecord,
  AuditWitnesses,
  FleetPool,
  FleetTotals,
  FleetVolume,
  Host,
  HostDetails,
  Job,
  JobDetails,
  OpenInvitation,
  PoolDetails,
  Secret,
  Token,
  User,
  VolumeDetails,
} from '../../../shared/protocol/api.ts';
import type { VolumeOrder } from '../../../shared/protocol/lists.ts';
import { ApiError, call, hostPath, poolPath, type VolumePlace, volumePath } from './client.ts';

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      // Events tell what changes.
      staleTime: Number.POSITIVE_INFINITY,
      refetchOnWindowFocus: false,
      retry: (count, error) =>
        count < 3 && error instanceof ApiError && (error.status === 0 || error.status >= 502),
    },
  },
});

const LIST = 10_000;
/** Every page of a list. */
async function all<T>(path: string, keyOf: (row: T) => string, signal: AbortSignal): Promise<T[]> {
  const rows: T[] = [];
  for (let after = ''; ; ) {
    const query = new URLSearchParams({ limit: String(LIST), ...(after && { after }) });
    const page = await call<T[]>(`${path}?${query}`, { signal });
    rows.push(...page);
    if (page.length < LIST) return rows;
    after = keyOf(page.at(-1)!);
  }
}

export const fleetQuery = queryOptions({
  queryKey: ['fleet'],
  queryFn: ({ signal }) => call<FleetTotals>('/fleet', { signal }),
});
export const attentionQuery = queryOptions({
  queryKey: ['fleet', 'attention'],
  queryFn: ({ signal }) => call<AttentionItem[]>('/fleet/attention', { signal }),
});
export const actionsQuery = queryOptions({
  queryKey: ['actions'],
  queryFn: ({ signal }) => call<ActionDescription[]>('/actions', { signal }),
});
export const hostsQuery = queryOptions({
  queryKey: ['hosts'],
  queryFn: ({ signal }) => all<Host>('/hosts', ({ name }) => name, signal),
});
export const poolsQuery = queryOptions({
  queryKey: ['pools'],
  queryFn: ({ signal }) => all<FleetPool>('/pools', ({ host, name }) => `${host}/${name}`, signal),
});

/** Jobs that a list has: the oldest leave it. */
export const MOST_JOBS = 500;
export interface JobFilter {
  state?: string;
}
export const jobsQuery = ({ state }: JobFilter = {}) =>
  queryOptions({
    queryKey: ['jobs', state ?? 'all'],
    queryFn: ({ signal }) =>
      call<Job[]>(`/jobs?limit=${MOST_JOBS}${state ? `&state=${state}` : ''}`, { signal }),
  });
export const jobQuery = (job: number) =>
  queryOptions({
    queryKey: ['job', job],
    queryFn: ({ signal }) => call<JobDetails>(`/jobs/${job}`, { signal }),
  });
export const hostQuery = (host: string) =>
  queryOptions({
    queryKey: ['host', host],
    queryFn: ({ signal }) => call<HostDetails>(hostPath(host), { signal }),
  });

export interface DoctorFinding {
  name: string;
  ok: boolean;
  detail: string;
  remedy?: string;
}
export const doctorQuery = (host: string) =>
  queryOptions({
    queryKey: ['doctor', host],
    queryFn: ({ signal }) => call<DoctorFinding[]>(`${hostPath(host)}/doctor`, { signal }),
    retry: false,
  });
export const poolQuery = (host: string, pool: string) =>
  queryOptions({
    queryKey: ['pool', host, pool],
    queryFn: ({ signal }) => call<PoolDetails>(poolPath({ host, pool }), { signal }),
  });
export const forecastQuery = (host: string, pool: string) =>
  queryOptions({
    queryKey: ['forecast', host, pool],
    queryFn: ({ signal }) => call<PoolForecast>(`${poolPath({ host, pool })}/forecast`, { signal }),
    retry: false,
  });
export const trashQuery = (host: string, pool: string) =>
  queryOptions({
    queryKey: ['trash', host, pool],
    queryFn: ({ signal }) => call<TrashedVolume[]>(`${poolPath({ host, pool })}/trash`, { signal }),
    retry: false,
  });
export const volumeQuery = (place: VolumePlace) =>
  queryOptions({
    queryKey: ['volume', place.host, place.pool, place.volume],
    queryFn: ({ signal }) => call<VolumeDetails>(volumePath(place), { signal }),
  });
export const snapshotsQuery = (place: VolumePlace) =>
  queryOptions({
    queryKey: ['snapshots', place.host, place.pool, place.volume],
    queryFn: ({ signal }) => call<Snapshot[]>(`${volumePath(place)}/snapshots`, { signal }),
    retry: false,
  });
export const tokensQuery = queryOptions({
  queryKey: ['tokens'],
  queryFn: ({ signal }) => call<Token[]>('/tokens', { signal }),
  // When one was used last, no event tells.
  staleTime: 0,
});
export const secretsQuery = queryOptions({
  queryKey: ['secrets'],
  queryFn: ({ signal }) => call<Secret[]>('/secrets', { signal }),
  // No event tells of them.
  staleTime: 0,
});
export const usersQuery = queryOptions({
  queryKey: ['users'],
  queryFn: ({ signal }) => call<User[]>('/users', { signal }),
});
export const invitationsQuery = queryOptions({
  queryKey: ['users', 'invitations'],
  queryFn: ({ signal }) => call<OpenInvitation[]>('/open-invitations', { signal }),
});
/** So many records are shown at once. */
export const MOST_RECORDS = 300;
export interface AuditFilter {
  actor?: string;
  host?: string;
  target?: string;
  action?: string;
  outcome?: string;
  /** So long ago at most, ms. */
  withinMs?: string;
}
export const witnessesQuery = queryOptions({
  queryKey: ['audit-witnesses'],
  queryFn: ({ signal }) => call<AuditWitnesses>('/audit/witnesses', { signal }),
});
export const auditQuery = ({ withinMs, ...filter }: AuditFilter) =>
  queryOptions({
    queryKey: ['audit', filter, withinMs],
    queryFn: ({ signal }) => {
      const query = new URLSearchParams({ limit: String(MOST_RECORDS) });
      if (withinMs) query.set('since', String(Date.now() - Number(withinMs)));
      for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value);
      return call<AuditRecord[]>(`/audit?${query}`, { signal });
    },
    // Each look is on record.
    refetchOnReconnect: false,
    refetchOnMount: true,
    staleTime: 60_000,
  });

/** Which volumes a table shows, and in which order. */
export interface VolumeView {
  host?: string;
  pool?: string;
  search?: string;
  format?: string;
  order: VolumeOrder;
  descending: boolean;
}
/** Rows of a table that are asked for at once. */
export const ROWS = 100;
const viewParams = ({ order, descending, ...filter }: VolumeView): URLSearchParams => {
  const query = new URLSearchParams({ order, descending: String(descending) });
  for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value);
  return query;
};
export const rowsQuery = (view: VolumeView, page: number) =>
  queryOptions({
    queryKey: ['volume-rows', view, page],
    async queryFn({ signal }) {
      const query = viewParams(view);
      query.set('offset', String(page * ROWS));
      query.set('limit', String(ROWS));
      return (await call<{ rows: FleetVolume[] }>(`/volume-rows?${query}`, { signal })).rows;
    },
    // What was scrolled away is forgotten soon: the page of a large fleet stays small.
    gcTime: 10_000,
  });
export const countQuery = (view: VolumeView) =>
  queryOptions({
    queryKey: ['volume-count', { ...view, order: undefined, descending: undefined }],
    async queryFn({ signal }) {
      const query = viewParams(view);
      query.set('limit', '1');
      query.set('count', 'true');
      return (await call<{ count: number }>(`/volume-rows?${query}`, { signal })).count;
    },
    placeholderData: keepPreviousData,
  });

export const usePools = (): FleetPool[] => useQuery(poolsQuery).data ?? [];
export const useHosts = (): Host[] => useQuery(hostsQuery).data ?? [];
