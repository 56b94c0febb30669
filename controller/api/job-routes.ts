import { z } from 'zod';
import { StowageError } from '../../shared/util/errors.ts';
import type { Parts } from '../controller.ts';
import { JOB_STATES } from '../store/schema.ts';
import type { ApiHttp } from './http.ts';

const jobParams = z.object({ job: z.coerce.number().int().positive() });
const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(50),
  before: z.coerce.number().int().optional(),
  state: z.enum(JOB_STATES).optional(),
});
const retryQuery = z.object({ allowUsed: z.stringbool().default(false) });

/** Jobs: durable, resumable work. */
export function jobRoutes(http: ApiHttp, { jobs, uploads }: Parts): void {
  const tags = ['jobs'];
  http.get(
    '/api/v1/jobs',
    { config: { role: 'viewer' }, schema: { tags, querystring: listQuery } },
    (request) => jobs.list(request.query),
  );
  http.get(
    '/api/v1/jobs/:job',
    { config: { role: 'viewer' }, schema: { tags, params: jobParams } },
    (request) => jobs.get(request.params.job),
  );

  http.post(
    '/api/v1/jobs/:job/cancel',
    { config: { role: 'operator', audit: 'job.cancel' }, schema: { tags, params: jobParams } },
    async (request) => {
      const job = await jobs.get(request.params.job);
      if (job.kind !== 'upload') return jobs.cancel(job.id);
      if (!['queued', 'running', 'waiting'].includes(job.state)) {
        throw new StowageError('job-state', `job ${job.id} has ended: ${job.state}`);
      }
      await uploads.cancelJob(job, new StowageError('cancelled', `cancelled by ${request.actor.name}`));
      return jobs.get(job.id);
    },
  );

  http.post(
    '/api/v1/jobs/:job/retry',
    {
      config: { role: 'operator', audit: 'job.retry' },
      schema: { tags, params: jobParams, querystring: retryQuery },
    },
    async (request, reply) => {
      const job = await jobs.retry(request.params.job, request.actor.name, request.query.allowUsed);
      request.note = { detail: `as job ${job.id}` };
      return reply.code(202).send(job);
    },
  );
}
