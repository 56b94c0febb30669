import { z } from 'zod';
import {
  type Job,
  type JobDetails,
  jobDetailsSchema,
  jobSchema,
  jobStateSchema,
} from '../../shared/protocol/api.ts';
import { ENDED_STATES } from '../../shared/protocol/lists.ts';
import type { Place } from '../../shared/protocol/rights.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { type Action, type Call, defineAction, type Services } from './action.ts';
import { authorizePlaces } from './perform.ts';

const jobAddress = z.object({ job: z.number().int().positive() });

function placesOf({ source, target }: Job): Place[] {
  return [source, target].flatMap((reference) => {
    if (reference === undefined) return [];
    const [host, pool] = reference.split('/');
    return [{ host, pool }];
  });
}

/** The job, when its caller may do this with it. */
async function jobOf(
  { jobs }: Services,
  { job }: { job: number },
  action: Pick<Action, 'name' | 'touch'>,
  { principal }: Call,
): Promise<JobDetails> {
  const found = await jobs.get(job);
  authorizePlaces(action, principal, placesOf(found));
  return found;
}

const list = defineAction({
  name: 'job.list',
  summary: 'Jobs, the newest first.',
  role: 'viewer',
  input: z.object({
    limit: z.number().int().min(1).max(1000).default(50),
    /** Those with lower numbers. */
    before: z.number().int().optional(),
    state: jobStateSchema.optional(),
  }),
  answer: z.array(jobSchema),
  places: () => [],
  run: ({ jobs }, filter, { principal }) => jobs.list({ ...filter, scopes: principal.scopes }),
});

const show = defineAction({
  name: 'job.show',
  summary: 'A job and its steps.',
  role: 'viewer',
  input: jobAddress,
  answer: jobDetailsSchema,
  places: () => [],
  run: (services, input, call) => jobOf(services, input, { name: 'job.show', touch: 'look' }, call),
});

/** The job's volume is the target of the record: who looks for what was done to it finds this too. */
const recordOf = ({ job }: { job: number }, { target }: Job) => ({ target, detail: `job ${job}` });

const cancel = defineAction({
  name: 'job.cancel',
  summary: 'Stops a job and rolls it back.',
  role: 'operator',
  audited: true,
  input: jobAddress,
  answer: jobDetailsSchema,
  places: () => [],
  plan: (services, input, call) => jobOf(services, input, { name: 'job.cancel', touch: 'act' }, call),
  record: recordOf,
  async run({ jobs, uploads }, { job: id }, { principal }, { kind, state }) {
    if (kind !== 'upload') return jobs.cancel(id);
    if (ENDED_STATES.includes(state)) throw new StowageError('job-state', `job ${id} has ended: ${state}`);
    await uploads.cancelJob(id, new StowageError('cancelled', `cancelled by ${principal.name}`));
    return jobs.get(id);
  },
});

function standingAction(what: 'pause' | 'resume', summary: string): Action {
  const name = `job.${what}`;
  return defineAction({
    name,
    summary,
    role: 'operator',
    audited: true,
    input: jobAddress,
    answer: jobDetailsSchema,
    places: () => [],
    plan: (services, input, call) => jobOf(services, input, { name, touch: 'act' }, call),
    record: recordOf,
    run: ({ jobs }, { job }) => (what === 'pause' ? jobs.pause(job) : jobs.resume(job)),
  });
}

const retry = defineAction({
  name: 'job.retry',
  summary: 'Begins again what a failed or cancelled job was for, as a new job; the failed one is dismissed.',
  role: 'operator',
  audited: true,
  input: jobAddress.extend({ allowUsed: z.boolean().default(false) }),
  answer: jobSchema,
  places: () => [],
  plan: (services, input, call) => jobOf(services, input, { name: 'job.retry', touch: 'act' }, call),
  record: ({ job, allowUsed }, { target }) => ({
    target,
    detail: `job ${job}${allowUsed ? ', also while domains use the volume' : ''}`,
  }),
  async run({ jobs }, { job: id, allowUsed }, { principal, note }) {
    const job = await jobs.retry(id, principal.name, allowUsed);
    note(`as job ${job.id}`);
    return job;
  },
});

const dismiss = defineAction({
  name: 'job.dismiss',
  summary: 'Says that somebody has seen that a job failed: it wants no attention any more.',
  role: 'operator',
  audited: true,
  input: jobAddress,
  answer: jobDetailsSchema,
  places: () => [],
  plan: (services, input, call) => jobOf(services, input, { name: 'job.dismiss', touch: 'act' }, call),
  record: recordOf,
  run: ({ jobs }, { job }) => jobs.dismiss(job),
});

export const jobActions = [
  list,
  show,
  cancel,
  standingAction('pause', 'Lets a job stand still; what it has done stays, and so does what it holds.'),
  standingAction('resume', 'Lets a paused job go on when its turn comes.'),
  retry,
  dismiss,
];
