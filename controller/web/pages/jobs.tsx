import { useQuery } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import type { Job } from '../../../shared/protocol/api.ts';
import { taskOf } from '../../../shared/protocol/job-words.ts';
import { ENDED_STATES, JOB_STATES } from '../../../shared/protocol/lists.ts';
import { call, linkTo, placeOf } from '../api/client.ts';
import { client, jobQuery, jobsQuery, MOST_JOBS } from '../api/queries.ts';
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
/** One that somebody has dismissed does not call for them again. */
const State = ({ job: { state, dismissedAt } }: { job: Job }) => (
  <Badge tone={dismissedAt === undefined ? TONES[state] : 'neutral'}>{state}</Badge>
);
const hasEnded = ({ state }: Job): boolean => ENDED_STATES.includes(state);

/** The rate is that of so long. */
const SEEN_MS = 10_000;
const LOOK_MS = 2000;
/** A job that has sent nothing for so long makes no progress. */
const STILL_MS = 30_000;

/** Bytes a second of the last seconds, 0 while they are not known; and for how long nothing has come. */
function useRate({ doneBytes, state }: Job): { bytesPerSecond: number; stillMs: number } {
  const [seen, setSeen] = useState<{ at: number; bytes: number }[]>([]);
  const [changedAt, setChangedAt] = useState(0);
  useEffect(() => {
    if (state !== 'running') return setSeen([]);
    setChangedAt(Date.now());
    // Also when nothing comes.
    const look = (): void => {
      const at = Date.now();
      setSeen((before) => [...before.filter((each) => at - each.at < SEEN_MS), { at, bytes: doneBytes }]);
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => clearInterval(timer);
  }, [doneBytes, state]);
  const [first, last] = [seen[0], seen.at(-1)];
  if (!first || !last) return { bytesPerSecond: 0, stillMs: 0 };
  const seenMs = last.at - first.at;
  const rate = seenMs < 500 ? 0 : ((last.bytes - first.bytes) * 1000) / seenMs;
  return { bytesPerSecond: Math.max(0, rate), stillMs: last.at - changedAt };
}

function JobProgress({ job }: { job: Job }) {
  const { bytesPerSecond, stillMs } = useRate(job);
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
      {bytesPerSecond > 0 && (
        <span className="why">
          {formatBytes(Math.round(bytesPerSecond))}/s, {duration((totalBytes - doneBytes) / bytesPerSecond)}{' '}
          left
        </span>
      )}
      {doneBytes < totalBytes && stillMs >= STILL_MS && <span className="why">no progress now</span>}
      {job.error && <span className="why">{job.error.message}</span>}
    </span>
  );
}

const DOINGS = ['retry', 'dismiss', 'resume', 'pause', 'cancel'] as const;
type Doing = (typeof DOINGS)[number];

export async function actOnJob(id: number, what: Doing): Promise<void> {
  try {
    await call(`/jobs/${id}/${what}`, { method: 'POST', json: {} });
    if (what !== 'dismiss') return;
    toast(`job ${id} is dismissed`);
    await client.invalidateQueries({ queryKey: ['fleet'] });
  } catch (failure) {
    toast((failure as Error).message, true);
  }
}

/** What can be done with a job now. */
function toDo(job: Job): Doing[] {
  const { state, dismissedAt } = job;
  // Whoever uploads goes on with it, or begins again.
  const isOurs = job.kind !== 'upload';
  const can: Record<Doing, boolean> = {
    retry: isOurs && (state === 'failed' || state === 'cancelled'),
    dismiss: state === 'failed' && dismissedAt === undefined,
    resume: isOurs && state === 'paused',
    pause: isOurs && state !== 'paused' && !hasEnded(job),
    cancel: !hasEnded(job),
  };
  return DOINGS.filter((what) => can[what]);
}

export function JobTools({ job }: { job: Job }) {
  const may = useMay();
  const { host, pool } = placeOf(job.target);
  const place = { host, pool };
  const offered = toDo(job);
  return (
    <span className="tools">
      {offered
        .filter((what) => may(`job.${what}`, place))
        .map((what) => (
          <Button
            key={what}
            look="quiet"
            aria-label={`${what} job ${job.id}`}
            onPress={() => void actOnJob(job.id, what)}
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
  { name: 'Kind', by: taskOf, width: 110, cell: taskOf },
  {
    name: 'State',
    by: ({ state }) => state,
    width: 110,
    cell: (job) => <State job={job} />,
  },
  {
    name: 'Target',
    by: ({ target }) => target,
    width: '2fr',
    minWidth: 180,
    cell: ({ source, target }) => (
      <span title={source === undefined ? target : `${source} to ${target}`}>{target}</span>
    ),
  },
  { name: 'Progress', width: '2fr', minWidth: 240, cell: (job) => <JobProgress job={job} /> },
  { name: 'By', by: ({ createdBy }) => createdBy, width: 80, cell: ({ createdBy }) => createdBy },
  {
    name: 'Begun',
    by: ({ createdAt }) => createdAt,
    width: 130,
    cell: ({ createdAt }) => <Time at={createdAt} />,
  },
  { name: 'Actions', width: 170, cell: (job) => <JobTools job={job} /> },
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
      {data.length >= MOST_JOBS && <p className="why">These are the newest {MOST_JOBS}.</p>}
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
    <Page title={`Job ${id}: ${taskOf(job)}`} crumbs={<A to="/jobs">Jobs</A>} tools={<JobTools job={job} />}>
      <Facts
        rows={[
          ['State', <State key="s" job={job} />],
          ['Progress', <JobProgress key="p" job={job} />],
          job.source !== undefined && ['From', volume(job.source)],
          ['Target', volume(job.target)],
          job.error && ['Why', `${job.error.message} [${job.error.code}]`],
          [
            'Bytes',
            <span key="b">
              <Size bytes={job.doneBytes} /> of <Size bytes={job.totalBytes} />;{' '}
              <Size bytes={job.wireBytes} /> over the network
              {job.doneBytes > job.wireBytes && job.kind === 'migrate' && (
                <>
                  , <Size bytes={job.doneBytes - job.wireBytes} /> were holes, zeros, or there already
                </>
              )}
            </span>,
          ],
          ['Asked for by', job.createdBy],
          ['Begun', <Time key="c" at={job.createdAt} />],
          job.endedAt !== undefined && ['Ended', <Time key="e" at={job.endedAt} />],
          job.dismissedAt !== undefined && ['Dismissed', <Time key="d" at={job.dismissedAt} />],
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
