import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import type { Job } from '../../../shared/protocol/api.ts';
import { JOB_STATES } from '../../../shared/protocol/lists.ts';
import { call, linkTo, placeOf } from '../api/client.ts';
import { jobQuery, jobsQuery } from '../api/queries.ts';
import { useMay } from '../api/rights.ts';
import { cancelUpload, useUploads } from '../api/upload.ts';
import {
  A,
  Badge,
  Button,
  Empty,
  Facts,
  Page,
  Problem,
  Progress,
  Section,
  Size,
  Time,
  type Tone,
} from '../parts/basics.tsx';
import { type ColumnOf, DataTable } from '../parts/data-table.tsx';
import { Choice } from '../parts/form.tsx';
import { duration, formatBytes } from '../parts/format.ts';
import { toast } from '../parts/toasts.tsx';

const TONES: Record<Job['state'], Tone> = {
  queued: 'neutral',
  running: 'busy',
  waiting: 'warn',
  paused: 'neutral',
  done: 'good',
  failed: 'bad',
  cancelled: 'neutral',
};
const hasEnded = ({ state }: Job): boolean => state === 'done' || state === 'failed' || state === 'cancelled';

/** Bytes a second of what was seen last; 0 while nothing is known. */
function useRate({ doneBytes, state }: Job): number {
  const seen = useRef<{ at: number; bytes: number }[]>([]);
  useEffect(() => {
    const now = Date.now();
    seen.current = [...seen.current.filter(({ at }) => now - at < 10_000), { at: now, bytes: doneBytes }];
  }, [doneBytes]);
  const [first, last] = [seen.current[0], seen.current.at(-1)];
  if (state !== 'running' || !first || !last || last.at - first.at < 500) return 0;
  return ((last.bytes - first.bytes) * 1000) / (last.at - first.at);
}

function JobProgress({ job }: { job: Job }) {
  const rate = useRate(job);
  const { doneBytes, totalBytes, queuePosition, waitsFor } = job;
  if (job.state === 'queued')
    return (
      <>
        {waitsFor
          ? `waits for host ${waitsFor}`
          : queuePosition === undefined
            ? ''
            : `${queuePosition} before it`}
      </>
    );
  if (hasEnded(job))
    return <>{job.error?.message ?? (job.wireBytes > 0 ? `${formatBytes(job.wireBytes)} sent` : '')}</>;
  return (
    <span className="job-progress">
      <Progress label={`Job ${job.id}`} done={doneBytes} total={totalBytes} />
      {rate > 0 && (
        <span className="why">
          {formatBytes(Math.round(rate))}/s, {duration((totalBytes - doneBytes) / rate)} left
        </span>
      )}
      {job.error && <span className="why">{job.error.message}</span>}
    </span>
  );
}

async function act(job: Job, what: 'cancel' | 'pause' | 'resume' | 'retry'): Promise<void> {
  try {
    await call(`/jobs/${job.id}/${what}`, { method: 'POST', json: {} });
  } catch (failure) {
    toast((failure as Error).message, true);
  }
}

export function JobTools({ job }: { job: Job }) {
  const may = useMay();
  const { host, pool } = placeOf(job.target);
  const place = { host, pool };
  const offered = (
    hasEnded(job)
      ? job.state !== 'done' && job.kind !== 'upload'
        ? ['retry']
        : []
      : [...(job.kind === 'upload' ? [] : [job.state === 'paused' ? 'resume' : 'pause']), 'cancel']
  ) as ('cancel' | 'pause' | 'resume' | 'retry')[];
  return (
    <span className="tools">
      {offered
        .filter((what) => may(`job.${what}`, place))
        .map((what) => (
          <Button
            key={what}
            look="quiet"
            aria-label={`${what} job ${job.id}`}
            onPress={() => void act(job, what)}
          >
            {what[0]!.toUpperCase() + what.slice(1)}
          </Button>
        ))}
    </span>
  );
}

const idOf = ({ id }: Job): string => String(id);
const COLUMNS: readonly ColumnOf<Job>[] = [
  { name: 'Job', by: ({ id }) => id, width: 60, cell: ({ id }) => <A to={linkTo.job(id)}>{id}</A> },
  { name: 'Kind', by: ({ kind }) => kind, width: 110, cell: ({ kind }) => kind },
  {
    name: 'State',
    by: ({ state }) => state,
    width: 110,
    cell: ({ state }) => <Badge tone={TONES[state]}>{state}</Badge>,
  },
  {
    name: 'Target',
    by: ({ target }) => target,
    width: '2fr',
    cell: ({ target }) => <span title={target}>{target}</span>,
  },
  { name: 'Progress', width: '3fr', minWidth: 240, cell: (job) => <JobProgress job={job} /> },
  { name: 'By', by: ({ createdBy }) => createdBy, width: 80, cell: ({ createdBy }) => createdBy },
  {
    name: 'Begun',
    by: ({ createdAt }) => createdAt,
    width: 130,
    cell: ({ createdAt }) => <Time at={createdAt} />,
  },
  { name: 'Do', width: 170, cell: (job) => <JobTools job={job} /> },
];

function Uploads() {
  const uploads = useUploads();
  if (uploads.length === 0) return null;
  return (
    <Section title="Uploads of this page">
      <ul className="list">
        {uploads.map((each) => {
          const { place, file, doneBytes, state, reason } = each;
          return (
            <li key={`${place.host}/${place.pool}/${place.volume}`}>
              <span>
                {file.name} to {place.host}/{place.pool}/{place.volume}
              </span>
              <Progress label={`Upload of ${file.name}`} done={doneBytes} total={file.size} />
              <Badge
                tone={
                  state === 'done'
                    ? 'good'
                    : state === 'failed'
                      ? 'bad'
                      : state === 'waiting'
                        ? 'warn'
                        : 'busy'
                }
              >
                {state}
              </Badge>
              <span className="why">{reason}</span>
              {(state === 'running' || state === 'waiting') && (
                <Button
                  look="quiet"
                  onPress={() => void cancelUpload(each).catch((error: Error) => toast(error.message, true))}
                >
                  Cancel
                </Button>
              )}
            </li>
          );
        })}
      </ul>
    </Section>
  );
}

export function Jobs() {
  const [state, setState] = useState('');
  const { data = [], error, refetch } = useQuery(jobsQuery(state ? { state } : {}));
  return (
    <Page
      title="Jobs"
      tools={
        <Choice
          label="State"
          value={state}
          onChange={setState}
          options={[{ id: '', label: 'every state' }, ...JOB_STATES.map((id) => ({ id, label: id }))]}
        />
      }
    >
      <Uploads />
      {error ? (
        <Problem error={error} retry={() => void refetch()} />
      ) : (
        <DataTable label="Jobs" rows={data} keyOf={idOf} columns={COLUMNS} empty="No jobs." />
      )}
    </Page>
  );
}

export function JobPage({ id }: { id: number }) {
  const { data: job, error, refetch } = useQuery(jobQuery(id));
  if (!job)
    return (
      <Page title={`Job ${id}`}>
        {error ? <Problem error={error} retry={() => void refetch()} /> : <Empty>Loading …</Empty>}
      </Page>
    );
  const volume = (reference: string) => <A to={linkTo.volume(placeOf(reference))}>{reference}</A>;
  return (
    <Page title={`Job ${id}: ${job.kind}`} crumbs={<A to="/jobs">Jobs</A>} tools={<JobTools job={job} />}>
      <Facts
        rows={[
          [
            'State',
            <Badge key="s" tone={TONES[job.state]}>
              {job.state}
            </Badge>,
          ],
          ['Progress', <JobProgress key="p" job={job} />],
          job.source !== undefined && ['From', volume(job.source)],
          ['Target', volume(job.target)],
          job.error && ['Why', `${job.error.message} [${job.error.code}]`],
          [
            'Bytes',
            <span key="b">
              <Size bytes={job.doneBytes} /> of <Size bytes={job.totalBytes} />;{' '}
              <Size bytes={job.wireBytes} /> over the network
            </span>,
          ],
          ['Asked for by', job.createdBy],
          ['Begun', <Time key="c" at={job.createdAt} />],
          job.endedAt !== undefined && ['Ended', <Time key="e" at={job.endedAt} />],
        ]}
      />
      <Section title="Steps">
        <ol className="list">
          {job.steps.map(({ name, startedAt, finishedAt }) => (
            <li key={name}>
              <span>{name}</span>
              <Badge tone={finishedAt === undefined ? 'busy' : 'good'}>
                {finishedAt === undefined ? 'begun' : 'done'}
              </Badge>
              <Time at={finishedAt ?? startedAt} />
            </li>
          ))}
        </ol>
      </Section>
    </Page>
  );
}
