import { createHash } from 'node:crypto';
import { z } from 'zod';
import { agentInfoSchema, doctorFindingSchema } from '../../shared/protocol/agent.ts';
import { StowageError } from '../../shared/util/errors.ts';
import { nameSchema } from '../../shared/util/names.ts';
import type { Parts } from '../controller.ts';
import type { ApiHttp } from './http.ts';

export const hostParams = z.object({ host: nameSchema });

const addHostSchema = z.object({
  name: nameSchema,
  user: z.string().regex(/^[a-z_][a-z0-9_.-]{0,31}$/i),
  hostname: z.string().regex(/^(?!-)[\w.:-]{1,253}$/),
  port: z.number().int().min(1).max(65535).default(22),
  /** Paths of private key files on the controller, tried first. */
  identities: z.array(z.string().max(4096)).max(16).default([]),
  /** Try nothing but them. */
  identitiesOnly: z.boolean().default(false),
  fingerprint: z
    .string()
    .regex(/^SHA256:[A-Za-z0-9+/]{43}$/)
    .optional(),
  acceptNew: z.boolean().default(false),
});

/** Hosts: add by SSH, invite by token, look at, forget. */
export function hostRoutes(http: ApiHttp, { fleet, leases }: Parts): void {
  const tags = ['hosts'];
  http.get('/api/v1/hosts', { config: { role: 'viewer' }, schema: { tags } }, () => fleet.list());
  http.get(
    '/api/v1/hosts/:host',
    { config: { role: 'viewer' }, schema: { tags, params: hostParams } },
    async (request) => {
      const host = await fleet.get(request.params.host);
      const agent = await fleet.client(request.params.host);
      const info =
        host.state === 'reachable'
          ? await agent.json(agentInfoSchema, '/v1/info').catch(() => undefined)
          : undefined;
      return { ...host, agent: info };
    },
  );
  http.get(
    '/api/v1/hosts/:host/doctor',
    { config: { role: 'viewer' }, schema: { tags, params: hostParams } },
    async (request) => {
      const agent = await fleet.client(request.params.host);
      return agent.json(z.array(doctorFindingSchema), '/v1/doctor');
    },
  );
  http.post(
    '/api/v1/hosts',
    { config: { role: 'admin', audit: 'host.add' }, schema: { tags, body: addHostSchema } },
    async (request, reply) => {
      const { name, fingerprint, acceptNew, ...address } = request.body;
      request.note = { target: name, detail: `${address.user}@${address.hostname}:${address.port}` };
      return reply.code(201).send(await fleet.addSsh(name, address, { fingerprint, acceptNew }));
    },
  );
  /** What to carry to a host that dials in. Their digests are told to those who may enrol one. */
  http.get('/api/v1/agent', { config: { role: 'viewer' }, schema: { tags } }, async () =>
    [...(await fleet.agentFiles())].map(([name, bytes]) => ({
      name,
      sizeBytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    })),
  );
  http.get(
    '/api/v1/agent/:file',
    { config: { role: 'public' }, schema: { tags, params: z.object({ file: nameSchema }) } },
    async (request, reply) => {
      const bytes = (await fleet.agentFiles()).get(request.params.file);
      if (!bytes) throw new StowageError('route-not-found', `an agent has no file '${request.params.file}'`);
      return reply.type('application/octet-stream').send(bytes);
    },
  );
  http.post(
    '/api/v1/hosts/:host/enrolment',
    { config: { role: 'admin', audit: 'host.invite' }, schema: { tags, params: hostParams } },
    async (request, reply) => reply.code(201).send(await fleet.enrol(request.params.host)),
  );
  http.delete(
    '/api/v1/hosts/:host',
    { config: { role: 'admin', audit: 'host.remove' }, schema: { tags, params: hostParams } },
    async (request, reply) => {
      await leases.refuseHeld(request.params.host);
      await fleet.remove(request.params.host);
      return reply.code(204).send();
    },
  );
}
