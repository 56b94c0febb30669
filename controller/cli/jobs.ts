import { Command, Option } from 'commander';
import { WebSocket } from 'ws';
import { ERRORS, type ErrorCode, StowageError } from '../../shared/util/errors.ts';
import { formatBytes } from '../../shared/util/units.ts';
import type { JobInfo } from '../jobs/runner.ts';
import { JOB_STATES, type JobRow } from '../store/schema.ts';
import { callJson, eventsUrl } from './client.ts';
import { type Listing, type ListOptions, listOptions, showList, timeColumn } from './listing.ts';
import { count } from './numbers.ts';
import { fields, Progress, show, time } from './output.ts';

const ENDED = ['done', 'failed', 'cancelled'];
const POLL_MS = 2000;

function about(job: JobRow): string {
  const { source, target, volume } = JSON.parse(job.params) as {
    source?: string;
    target?: string;
    volume?: string;
  };
  return volume ?? `${source} -> ${target}`;
}

const percent = (job: JobRow): string =>
  job.total_bytes > 0 ? `${Math.floor((job.done_bytes / job.total_bytes) * 100)} %` : '';

const JOBS: Listing<JobRow> = {
  name: ({ id }) => String(id),
  columns: [
    { name: 'ID', value: (job) => job.id },
    { name: 'KIND', value: (job) => job.kind },
    { name: 'STATE', value: (job) => job.state },
    {
      name: 'DONE',
      value: (job) => (job.total_bytes > 0 ? job.done_bytes / job.total_bytes : null),
      text: percent,
    },
    { name: 'ABOUT', value: about },
    { name: 'BY', value: (job) => job.created_by },
    timeColumn('STARTED', (job) => job.created_at),
    { name: 'REASON', value: (job) => job.error_message, wide: true },
  ],
};

function describe(job: JobInfo): string {
  const facts = fields([
    ['job', job.id],
    ['kind', job.kind],
    ['about', about(job)],
    ['state', job.state],
    ['reason', job.error_message && `${job.error_message} [${job.error_code}]`],
    [
      'progress',
      job.total_bytes > 0
        ? `${formatBytes(job.done_bytes)} of ${formatBytes(job.total_bytes)} (${percent(job)})`
        : '',
    ],
    ['on the wire', job.wire_bytes > 0 ? formatBytes(job.wire_bytes) : ''],
    ['started by', job.created_by],
    ['started', time(job.created_at)],
  ]);
  const steps = job.steps.map((step) => `  ${step.finished_at ? 'done   ' : 'begun  '} ${step.name}`);
  return [facts, ...steps].join('\n');
}

/** Calls back whenever the controller tells of the job; polls as well, as a lost event must not hang us. */
function follow(id: number, changed: () => void): () => void {
  const { url, headers } = eventsUrl();
  const socket = new WebSocket(url, { headers });
  socket.on('message', (data) => {
    const event = JSON.parse(data.toString()) as { type: string; now?: { id?: number } };
    if (event.type === 'job' && event.now?.id === id) changed();
  });
  socket.on('error', () => socket.terminate());
  const timer = setInterval(changed, POLL_MS);
  return () => {
    clearInterval(timer);
    socket.terminate();
  };
}

/** Shows a job's progress until it ends. Throws what it failed with. */
export async function watchJob(id: number): Promise<JobInfo> {
  const progress = new Progress(`job ${id}`, `job ${id} goes on; to stop it: stowage job cancel ${id}`);
  let wake: () => void = () => undefined;
  const stop = follow(id, () => wake());
  try {
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      // The controller may be away for a moment: the job is not, so neither are we.
      const job = await callJson<JobInfo>(`/jobs/${id}`).catch((error: StowageError) => {
        if (error.code !== 'host-unreachable') throw error;
        return undefined;
      });
      if (job) progress.update(job.done_bytes, job.total_bytes);
      if (job && ENDED.includes(job.state)) {
        if (job.state === 'done') return job;
        const code = job.error_code && job.error_code in ERRORS ? (job.error_code as ErrorCode) : 'internal';
        throw new StowageError(code, `job ${id} ${job.state}: ${job.error_message}`);
      }
      await woken;
    }
  } finally {
    stop();
    progress.stop();
  }
}

export function jobCommand(): Command {
  const job = new Command('job').description('durable work: look, watch, cancel, retry');
  listOptions(job.command('list'), { followed: true })
    .description('jobs, the newest first')
    .option('--limit <count>', 'how many', count, 20)
    .addOption(new Option('--state <state>', 'only those in a state').choices(JOB_STATES))
    .action(({ limit, state, ...options }: ListOptions & { limit: number; state?: string }) => {
      const query = new URLSearchParams({ limit: String(limit), ...(state && { state }) });
      return showList(JOBS, () => callJson<JobRow[]>(`/jobs?${query}`), options);
    });
  job
    .command('show')
    .argument('<job>', 'its number', count)
    .description('a job and its steps')
    .action(async (id: number) => show(await callJson<JobInfo>(`/jobs/${id}`), describe));
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
        await show(await callJson<JobInfo>(`/jobs/${id}/cancel`, { method: 'POST' }), describe),
    );
  job
    .command('retry')
    .argument('<job>', 'its number', count)
    .description('begin again what a failed or cancelled job was for')
    .option('--allow-used', 'also while domains use the volume; goes on record')
    .option('--no-wait', 'do not wait for the end')
    .action(async (id: number, options: { allowUsed?: boolean; wait: boolean }) => {
      const query = options.allowUsed ? '?allowUsed=true' : '';
      const begun = await callJson<JobInfo>(`/jobs/${id}/retry${query}`, {
        method: 'POST',
      });
      await show(options.wait ? await watchJob(begun.id) : begun, describe);
    });
  return job;
}
