import { z } from 'zod';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import { ROLES } from '../store/schema.ts';
import type { ApiHttp } from './http.ts';

const createSchema = z.object({
  name: nameSchema,
  role: z.enum(ROLES),
  /** ms since the epoch. */
  expiresAt: z.number().int().positive().optional(),
});

/** API tokens. A secret is shown once, when it is made. */
export function tokenRoutes(http: ApiHttp, { tokens }: Parts): void {
  const tags = ['tokens'];
  http.get('/api/v1/tokens', { config: { role: 'admin' }, schema: { tags } }, () => tokens.list());
  http.post(
    '/api/v1/tokens',
    { config: { role: 'admin', audit: 'token.create' }, schema: { tags, body: createSchema } },
    async (request, reply) => {
      const { name, role, expiresAt } = request.body;
      request.note = { target: `token ${name}`, detail: role };
      return reply.code(201).send(await tokens.create(name, role, expiresAt));
    },
  );
  http.delete(
    '/api/v1/tokens/:token',
    {
      config: { role: 'admin', audit: 'token.revoke' },
      schema: { tags, params: z.object({ token: nameSchema }) },
    },
    async (request, reply) => {
      await tokens.revoke(request.params.token);
      return reply.code(204).send();
    },
  );
}
