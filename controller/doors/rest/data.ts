import type { FastifyReply, FastifyRequest } from 'fastify';
import type { TransferStatus } from '../../../shared/protocol/agent.ts';
import type { Upload } from '../../../shared/protocol/api.ts';
import { StowageError } from '../../../shared/util/errors.ts';
import type { Action, ByteStream } from '../../actions/action.ts';
import { ACTIONS } from '../../actions/index.ts';
import type { Doors } from '../doors.ts';
import { inputOf, performFor, sendBytes } from './call.ts';
import type { ApiHttp } from './http.ts';
import { describeRoute } from './openapi.ts';

const volume = '/api/v1/hosts/:host/pools/:pool/volumes/:volume';

/** Where the bytes of a PUT belong, from `Content-Range: bytes 0-99/1000` or, without one, all from the start. */
function placeOf({ headers }: FastifyRequest): { offset: number; sizeBytes: number } {
  const range = headers['content-range'];
  if (range !== undefined) {
    const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(range);
    if (!match) throw new StowageError('invalid-range', 'Content-Range must be: bytes FIRST-LAST/TOTAL');
    return { offset: Number(match[1]), sizeBytes: Number(match[3]) };
  }
  const length = Number(headers['content-length'] ?? Number.NaN);
  if (!(length > 0))
    throw new StowageError('invalid-argument', 'an upload needs its Content-Length, which must not be 0');
  return { offset: 0, sizeBytes: length };
}

/** The bytes of volumes over plain HTTP, with ranges, for every client such as curl and wget. */
export function serveData(http: ApiHttp, doors: Doors): void {
  const named = (name: string): Action => ACTIONS.get(name)!;

  const download = named('volume.download');
  http.route({
    method: ['GET', 'HEAD'],
    url: `${volume}/data`,
    config: { action: download },
    schema: describeRoute(download, { method: 'GET', path: `${volume}/data` }),
    handler: async (request, reply) => {
      const { range, 'if-range': ifRange } = request.headers;
      const input = { ...inputOf(request, download), range, ifRange, head: request.method === 'HEAD' };
      return sendBytes(reply, (await performFor(doors, request, reply, download, input)) as ByteStream);
    },
  });

  const upload = named('volume.upload-bytes');
  http.route({
    method: 'PUT',
    url: `${volume}/data`,
    config: { action: upload },
    schema: describeRoute(upload, { method: 'PUT', path: `${volume}/data`, status: 201 }),
    handler: async (request, reply: FastifyReply) => {
      const input = { ...inputOf(request, upload), ...placeOf(request) };
      const { status, volume: made } = (await performFor(doors, request, reply, upload, input)) as {
        status: TransferStatus;
        volume?: unknown;
      };
      void reply.header('upload-length', input.sizeBytes).header('upload-offset', status.contiguousBytes);
      return made === undefined ? reply.code(202).send(status) : reply.code(201).send(made);
    },
  });

  /** How far an upload has come: its headers say where to go on. */
  const show = named('upload.show');
  http.route({
    method: ['GET', 'HEAD'],
    url: `${volume}/upload`,
    config: { action: show },
    schema: describeRoute(show, { method: 'GET', path: `${volume}/upload` }),
    handler: async (request, reply) => {
      const found = (await performFor(doors, request, reply, show, inputOf(request, show))) as Upload;
      void reply
        .header('upload-offset', found.status.contiguousBytes)
        .header('upload-length', found.status.totalBytes);
      return found;
    },
  });
}
