import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { representationSchema, volumeFormatSchema } from '../../shared/conf/volume.ts';
import {
  commitSchema,
  extentsQuery,
  layoutSchema,
  representationQuery,
} from '../../shared/protocol/agent.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { Parts } from '../controller.ts';
import { agentVolumePath } from '../hosts/agent-client.ts';
import type { UploadTarget } from '../jobs/uploads.ts';
import type { ApiHttp } from './http.ts';
import { referenceOf, volumeParams } from './volume-routes.ts';

const uploadQuery = z.object({
  allowUsed: z.stringbool().default(false),
  format: volumeFormatSchema.optional(),
  as: representationSchema.default('image'),
});
const beginUploadSchema = uploadQuery.extend({
  allowUsed: z.boolean().default(false),
  sizeBytes: z.number().int().positive().max(Number.MAX_SAFE_INTEGER),
});

/** What the audit trail says of an upload. */
const uploadDetail = (job: number, sizeBytes: number, allowUsed: boolean): string =>
  `job ${job}, ${sizeBytes} bytes${allowUsed ? ', also over what domains use' : ''}`;

/** Where the bytes of a PUT belong, from `Content-Range: bytes 0-99/1000` or, without one, all from the start. */
function placeOf(request: FastifyRequest): { offset: number; sizeBytes: number } {
  const range = request.headers['content-range'];
  if (range !== undefined) {
    const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(range);
    if (!match) throw new StowageError('invalid-range', 'Content-Range must be: bytes FIRST-LAST/TOTAL');
    return { offset: Number(match[1]), sizeBytes: Number(match[3]) };
  }
  const length = Number(request.headers['content-length'] ?? Number.NaN);
  if (!(length > 0))
    throw new StowageError('invalid-argument', 'an upload needs its Content-Length, which must not be 0');
  return { offset: 0, sizeBytes: length };
}

/** The bytes of volumes: plain HTTP with ranges for every client, extent streams for ours. */
export function dataRoutes(http: ApiHttp, { fleet, leases, uploads }: Parts): void {
  const tags = ['data'];
  const path = '/api/v1/hosts/:host/pools/:pool/volumes/:volume';

  /** Passes an agent's answer on, holding the volume as long as it streams. */
  const passOn = async (
    request: FastifyRequest,
    reply: FastifyReply,
    address: UploadTarget,
    agentPath: string,
  ): Promise<FastifyReply> => {
    const agent = await fleet.client(address.host);
    const lease = await leases.acquire(referenceOf(address), 'read', `download by ${request.actor.name}`);
    const stop = new AbortController();
    const end = (): void => {
      stop.abort();
      void lease[Symbol.asyncDispose]();
    };
    reply.raw.once('close', end);
    const headers: Record<string, string> = {};
    for (const name of ['range', 'if-range'] as const)
      if (request.headers[name]) headers[name] = String(request.headers[name]);
    const answer = await agent.stream(agentPath, {
      method: request.method,
      headers,
      signal: stop.signal,
      patient: true,
    });
    for (const name of [
      'content-type',
      'content-length',
      'content-range',
      'accept-ranges',
      'etag',
    ] as const) {
      const value = answer.headers[name];
      if (value !== undefined) void reply.header(name, value);
    }
    // A cut on the agent's side must cut the client too: a short answer that looks whole is worse than none.
    answer.once('error', () => reply.raw.destroy());
    return reply.code(answer.statusCode!).send(answer);
  };

  const reading = (audit: string) => ({
    config: { role: 'viewer' as const, audit },
    schema: { tags, params: volumeParams, querystring: representationQuery },
  });
  http.get(`${path}/data`, reading('volume.download'), (request, reply) =>
    passOn(request, reply, request.params, `${agentVolumePath(request.params)}/data?as=${request.query.as}`),
  );
  http.get(
    `${path}/extents`,
    {
      config: { role: 'viewer', audit: 'volume.download' },
      schema: { tags, params: volumeParams, querystring: extentsQuery },
    },
    (request, reply) => {
      const { as, etag, from } = request.query;
      const query = new URLSearchParams({ as, from: String(from), ...(etag !== undefined && { etag }) });
      return passOn(request, reply, request.params, `${agentVolumePath(request.params)}/extents?${query}`);
    },
  );
  http.get(
    `${path}/layout`,
    { config: { role: 'viewer' }, schema: { tags, params: volumeParams, querystring: representationQuery } },
    async (request) => {
      const agent = await fleet.client(request.params.host);
      return agent.json(layoutSchema, `${agentVolumePath(request.params)}/layout?as=${request.query.as}`, {
        patient: true,
      });
    },
  );

  // ---- plain uploads: curl -T FILE, and curl -C OFFSET -T FILE to go on ----

  const writing = { role: 'operator' as const, audit: 'volume.upload' };
  http.put(
    `${path}/data`,
    { config: writing, schema: { tags, params: volumeParams, querystring: uploadQuery } },
    async (request, reply) => {
      const { offset, sizeBytes } = placeOf(request);
      const { host } = request.params;
      const { format, as, allowUsed } = request.query;
      const upload = await uploads.begin(
        request.params,
        { format, representation: as, sizeBytes, allowUsed },
        request.actor.name,
      );
      void reply.header('upload-length', sizeBytes).header('upload-offset', upload.status.contiguousBytes);
      const status = await uploads.receiveBytes(host, upload, offset, request.body as Readable);
      void reply.header('upload-offset', status.contiguousBytes);
      request.note = { detail: uploadDetail(upload.job, sizeBytes, allowUsed) };
      if (!status.complete) return reply.code(202).send(status);
      return reply.code(201).send(await uploads.commit(host, upload, undefined));
    },
  );

  /** How far an upload has come: its headers say where to go on. */
  http.get(
    `${path}/upload`,
    { config: { role: 'operator' }, schema: { tags, params: volumeParams } },
    async (request, reply) => {
      const upload = await uploads.find(request.params);
      void reply
        .header('upload-offset', upload.status.contiguousBytes)
        .header('upload-length', upload.status.totalBytes);
      return upload;
    },
  );
  http.delete(
    `${path}/upload`,
    { config: { role: 'operator', audit: 'volume.upload.cancel' }, schema: { tags, params: volumeParams } },
    async (request, reply) => {
      const upload = await uploads.find(request.params);
      await uploads.cancel(
        request.params.host,
        upload,
        new StowageError('cancelled', `cancelled by ${request.actor.name}`),
      );
      return reply.code(204).send();
    },
  );

  // ---- sparse uploads: what the CLI does ----

  http.post(
    `${path}/upload`,
    { config: writing, schema: { tags, params: volumeParams, body: beginUploadSchema } },
    async (request, reply) => {
      const { format, as, sizeBytes, allowUsed } = request.body;
      const upload = await uploads.begin(
        request.params,
        { format, representation: as, sizeBytes, allowUsed },
        request.actor.name,
      );
      request.note = { detail: uploadDetail(upload.job, sizeBytes, allowUsed) };
      return reply.code(201).send(upload);
    },
  );
  http.get(
    `${path}/upload/digests`,
    { config: { role: 'operator' }, schema: { tags, params: volumeParams } },
    async (request, reply) => {
      const upload = await uploads.find(request.params);
      const agent = await fleet.client(request.params.host);
      return reply
        .type('application/octet-stream')
        .send(await agent.stream(`/v1/transfers/${upload.spec.id}/digests`));
    },
  );
  http.put(
    `${path}/upload/extents`,
    { config: writing, schema: { tags, params: volumeParams } },
    async (request) => {
      const upload = await uploads.find(request.params);
      return uploads.receiveExtents(request.params.host, upload, request.body as Readable);
    },
  );
  http.post(
    `${path}/upload/commit`,
    { config: writing, schema: { tags, params: volumeParams, body: commitSchema } },
    async (request) => {
      const upload = await uploads.find(request.params);
      return uploads.commit(request.params.host, upload, request.body.digest);
    },
  );
}
