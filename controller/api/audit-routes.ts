import { Readable } from 'node:stream';
import { z } from 'zod';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import type { ApiHttp } from './http.ts';

const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(50),
  after: z.coerce.number().int().nonnegative().optional(),
  /** Ms since the epoch. */
  since: z.coerce.number().int().optional(),
  actor: z.string().max(200).optional(),
  /** What was done to a host, its pools and volumes. */
  host: nameSchema.optional(),
});

/** The audit trail: the newest records, the verdict on all of them, and all of them as JSON lines. */
export function auditRoutes(http: ApiHttp, { audit }: Parts): void {
  const tags = ['audit'];
  http.get(
    '/api/v1/audit',
    { config: { role: 'viewer' }, schema: { tags, querystring: listQuery } },
    (request) => {
      const { limit, ...filter } = request.query;
      return audit.list(limit, filter);
    },
  );
  http.get('/api/v1/audit/verify', { config: { role: 'viewer' }, schema: { tags } }, async () => ({
    ...(await audit.verify()),
    publicKey: audit.publicKey,
  }));
  http.get(
    '/api/v1/audit/export',
    { config: { role: 'admin', audit: 'audit.export' }, schema: { tags } },
    (_request, reply) => {
      async function* lines(): AsyncGenerator<string> {
        for await (const record of audit.all()) yield `${JSON.stringify(record)}\n`;
      }
      return reply.type('application/x-ndjson').send(Readable.from(lines()));
    },
  );
}
