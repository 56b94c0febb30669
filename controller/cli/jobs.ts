import { Command, Option } from 'commander';
import type { WebSocket } from 'ws';
import type { FleetEvent, Job, JobDetails } from '../../shared/protocol/api.ts';
import { taskOf } from '../../shared/protocol/job-words.ts';
import { ENDED_STATES, JOB_STATES } from '../../shared/protocol/lists.ts';
import { clock } from '../../shared/util/clock.ts';
import { ERRORS, type ErrorCode, StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import { callJson, openEvents, send } from './client.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { count } from './numbers.ts';
import { fields, Progress, show, time } from './output.ts';
import { tryAll } from './try-all.ts';

const POLL_MS = 2000;

const about = ({ source, target }: Job): string => (source === undefined ? target : `${source} -> ${target}`);

/** Of a queued job how many come before it. */
function stateOf({ state, queuePosition, waitsFor }: Job): string {
  if (waitsFor !== undefined) return `${state}, waits for host ${waitsFor}, which is away`;
  return queuePosition === undefined ? state : `${state}, ${queuePosition} before it`;
}

const percent = (job: Job): string =>
  job.totalBytes > 0 ? `${Math.floor((job.doneBytes / job.totalBytes) * 100)} %` : '';

const JOBS: Listing<Job> = {
  name: ({ id }) => String(id),
  columns: [
    { name: 'ID', value: (job) => job.id },
    { name: 'KIND', value: taskOf },
    { name: 'STATE', value: (job) => job.state },
    {
      name: 'DONE',
      value: (job) => (job.totalBytes > 0 ? job.doneBytes / job.totalBytes : null),
      text: percent,
    },
    { name: 'ABOUT', value: about },
    { name: 'BY', value: (job) => job.createdBy },
    timeColumn('SUBMITTED', (job) => job.createdAt),
    {
      name: 'ENDED',
      value: (job) => job.endedAt,
      text: (job) => (job.endedAt ? time(job.endedAt) : ''),
      wide: true,
    },
    { name: 'REASON', value: (job) => job.error?.message, wide: true },
  ],
};

function describe(job: JobDetails): string {
  const facts = fields([
    ['job', job.id],
    ['kind', taskOf(job)],
    ['about', about(job)],
    ['state', stateOf(job)],
    ['reason', job.error && `${job.error.message} [${job.error.code}]`],
    [
      'progress',
      job.totalBytes > 0
        ? `${formatBytes(job.doneBytes)} of ${formatBytes(job.totalBytes)} (${percent(job)})`
        : '',
    ],
    ['on the wire', job.wireBytes > 0 ? formatBytes(job.wireBytes) : ''],
    ['submitted by', job.createdBy],
    ['submitted', time(job.createdAt)],
    ['started', job.startedAt && time(job.startedAt)],
    ['ended', job.endedAt && time(job.endedAt)],
    ['dismissed', job.dismissedAt && time(job.dismissedAt)],
  ]);
  const steps = job.steps.map((step) => `  ${step.finishedAt ? 'done   ' : 'begun  '} ${step.name}`);
  return [facts, ...steps].join('\n');
}

/** Calls back whenever the controller tells of the job; polls as well, as a lost event must not hang us. */
function follow(id: number, changed: () => void): () => void {
  let isOver = false;
  let socket: WebSocket | undefined;
  const listen = async (): Promise<void> => {
    const opened = await openEvents();
    socket = opened;
    if (isOver) opened.terminate();
    opened.on('message', (data) => {
      const event = JSON.parse(data.toString()) as FleetEvent;
      if (event.type === 'job' && event.job === id) changed();
    });
    opened.on('error', () => opened.terminate());
  };
  listen().catch(() => undefined);
  const timer = setInterval(changed, POLL_MS);
  return () => {
    isOver = true;
    clearInterval(timer);
    socket?.terminate();
  };
}

/** So long a controller may be away. */
const PATIENCE_MS = 300_000;

/** Shows a job's progress until it ends. Throws what it failed with, and `host-unreachable` once the controller has not answered for five minutes. */
export async function watchJob(id: number): Promise<JobDetails> {
  const progress = new Progress(`job ${id}`, `job ${id} goes on; to stop it: stowage job cancel ${id}`);
  let wake: () => void = () => undefined;
  const stop = follow(id, () => wake());
  let heardAt = clock.monotonicMs();
  try {
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      // The controller may be away for a moment: the job is not, so neither are we.
      const job = await callJson<JobDetails>(`/jobs/${id}`).catch((error: StowageError) => {
        if (error.code !== 'host-unreachable' || clock.monotonicMs() - heardAt > PATIENCE_MS) throw error;
        return undefined;
      });
      if (job) heardAt = clock.monotonicMs();
      if (job) progress.update(job.doneBytes, job.totalBytes);
      if (job && ENDED_STATES.includes(job.state)) {
        if (job.state === 'done') return job;
        const code = job.error && job.error.code in ERRORS ? (job.error.code as ErrorCode) : 'internal';
        throw new StowageError(code, `job ${id} ${job.state}: ${job.error?.message}`);
      }
      await woken;
    }
  } finally {
    stop();
    progress.stop();
  }
}

async function dismiss(ids: readonly number[]): Promise<void> {
  const { done: dismissed, failure } = await tryAll(ids, (id) =>
    send(`/jobs/${id}/dismiss`, { method: 'POST' }),
  );
  if (dismissed.length > 0) await show({ dismissed }, () => `dismissed: ${dismissed.join(' ')}`);
  if (failure !== undefined) throw failure;
}

export function jobCommand(): Command {
  const job = new Command('job').description('durable work: look, watch, cancel, retry');
  listOptions(job.command('list'), { followed: true })
    .description('jobs, the newest first')
    .option('--limit <count>', 'how many', count, 20)
    .addOption(new Option('--state <state>', 'only those in a state').choices(JOB_STATES))
    .action(({ limit, state, ...options }: ListOptions & { limit: number; state?: string }) => {
      const query = new URLSearchParams({ limit: String(limit), ...(state && { state }) });
      return showList(JOBS, () => callJson<Job[]>(`/jobs?${query}`), options);
    });
  job
    .command('show')
    .argument('<job>', 'its number', count)
    .description('a job and its steps')
    .action(async (id: number) => show(await callJson<JobDetails>(`/jobs/${id}`), describe));
  job
    .command('watch')
    .argument('<job>', 'its number', count)
    .description('wait for the end, showing progress')
    .action(async (id: number) => show(await watchJob(id), describe));
  job
    .command('cancel')
    .argument('<job>', 'its number', count)
    .description('stop and roll back')
    .action(
      async (id: number) =>
        await show(await callJson<JobDetails>(`/jobs/${id}/cancel`, { method: 'POST' }), describe),
    );
  for (const [name, description] of [
    ['pause', 'let it stand still; what it has done stays, and so does what it holds'],
    ['resume', 'let a paused job go on when its turn comes'],
  ] as const)
    job
      .command(name)
      .argument('<job>', 'its number', count)
      .description(description)
      .action(
        async (id: number) =>
          await show(await callJson<JobDetails>(`/jobs/${id}/${name}`, { method: 'POST' }), describe),
      );
  job
    .command('dismiss')
    .argument('<job...>', 'their numbers', (word: string, before: number[] = []) => [...before, count(word)])
    .description('failed jobs want no attention any more; all are tried')
    .action(dismiss);
  job
    .command('retry')
    .argument('<job>', 'its number', count)
    .description('begin again what a failed or cancelled job was for')
    .option('--allow-used', 'also while domains use the volume; goes on record')
    .option('--no-wait', 'do not wait for the end')
    .action(async (id: number, options: { allowUsed?: boolean; wait: boolean }) => {
      const query = options.allowUsed ? '?allowUsed=true' : '';
      const begun = await callJson<Job>(`/jobs/${id}/retry${query}`, {
        method: 'POST',
      });
      if (options.wait) return show(await watchJob(begun.id), describe);
      await show(begun, () => `job ${begun.id} begun; see: stowage job watch ${begun.id}`);
    });
  return job;
}
