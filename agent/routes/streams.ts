import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import type { StreamFormat } from '../../shared/conf/stream.ts';
import { receiveStreamQuery, sendStreamSchema, volumeParams } from '../../shared/protocol/agent.ts';
import { isStowageError, StowageError } from '../../shared/util/errors.ts';
import { runOk } from '../host/run.ts';
import type { HostAgent } from '../host-agent.ts';
import { type AgentHttp, abortSignal } from '../http.ts';
import { changes } from './changes.ts';

/** Longest that the other side of a stream may neither send nor take anything. */
const STALL_MS = 600_000;

/** Side by side, from one host: each is a program, which may wait long for who reads it. */
const MOST_SENDS = 16;

/** What programs say of a stream that is not whole, or is none. */
const CUT = /short read|unexpected EOF|incomplete stream|empty stream|failed to read from stream/i;
const NOT_ONTO =
  /does not\s+match incremental source|has been modified|must specify -F|destination .* exists/i;
const OTHER = /invalid stream|magic|crc32 mismatch|unexpected header|checksum mismatch/i;

/** What became of a stream, and not what the program says of places where only the agent looks. */
function inWords(error: unknown, format: StreamFormat): unknown {
  if (isStowageError(error, 'no-space'))
    return new StowageError('no-space', 'the pool has no room for what the stream holds', { cause: error });
  if (!isStowageError(error, 'tool-failed')) return error;
  if (CUT.test(error.message))
    return new StowageError('stream-cut', 'the stream ends before it is whole', { cause: error });
  if (NOT_ONTO.test(error.message))
    return new StowageError(
      'volume-changed',
      'the stream does not begin at the last snapshot of the volume, or the volume was written to since',
      { cause: error },
    );
  if (OTHER.test(error.message))
    return new StowageError('stream-corrupt', `that is no whole stream of format ${format}`, {
      cause: error,
    });
  return error;
}

/** Volumes as streams of their own storage: a program of that writes or reads them, and its bytes pass through here. */
export function streamRoutes(http: AgentHttp, agent: HostAgent): void {
  const { pools, use } = agent;
  const { change, destroy } = changes(agent);
  const sends = new Set<object>();

  const requireFormat = (pool: string, format: StreamFormat): void => {
    if (!pools.traits(pool).streams?.includes(format))
      throw new StowageError(
        'not-supported',
        `the storage of pool '${pool}' makes and reads no ${format} streams`,
      );
  };

  http.get(
    '/v1/pools/:pool/volumes/:volume/stream',
    { schema: { params: volumeParams, querystring: sendStreamSchema } },
    async (request, reply) => {
      const { pool, volume } = request.params;
      const { format, ...stream } = request.query;
      requireFormat(pool, format);
      const operations = await pools.operations(pool);
      if (sends.size >= MOST_SENDS)
        throw new StowageError('rate-limited', `${MOST_SENDS} streams are being sent from this host already`);
      const reader = use.read(`${pool}/${volume}`, 'being sent as a stream');
      sends.add(reader);
      const release = (): void => {
        sends.delete(reader);
        reader[Symbol.dispose]();
      };
      const body = new PassThrough();
      try {
        const { id, tool, args } = await operations.beginSending(volume, stream);
        const options = { stdout: body, signal: abortSignal(request), stallMs: STALL_MS };
        const sent = runOk(tool, [...args], options).finally(async () => {
          await operations.dropStream(id).catch(() => undefined);
          release();
        });
        // A stream that is no whole one is cut, and never ends as if it were.
        sent.catch((error) => body.destroy(error));
        // What fails before its first byte is refused.
        await Promise.race([once(body, 'readable'), sent]);
      } catch (error) {
        release();
        throw error;
      }
      return reply.type('application/octet-stream').send(body);
    },
  );

  http.put(
    '/v1/pools/:pool/volumes/:volume/stream',
    { schema: { params: volumeParams, querystring: receiveStreamQuery } },
    async (request) => {
      const { pool, volume } = request.params;
      const { format, volumeId, transfer, ...stream } = request.query;
      pools.refuseName(pool, volume);
      requireFormat(pool, format);
      const { base } = stream;
      // What a guest would miss is replaced by a stream onto a volume.
      return await (base === undefined ? change : destroy)(
        request,
        'being received as a stream',
        async (operations) => {
          const signal = abortSignal(request);
          const { id, tool, args } = await operations.beginReceiving(volume, stream);
          try {
            // From a snapshot to itself nothing has changed.
            if (base !== undefined && base === stream.snapshot) return await operations.look(volume);
            const stdin = request.body as Readable;
            await runOk(tool, [...args], { stdin, signal, stallMs: STALL_MS }).catch(async (error) => {
              // Some of its snapshots may have come. What fails here is tried again by the next start of the pool.
              if (base !== undefined)
                await operations.endReceiving(id, volume, { base }).catch(() => undefined);
              throw inWords(error, format);
            });
            return await operations.endReceiving(id, volume, stream, { id: volumeId, transfer }, signal);
          } finally {
            await operations.dropStream(id).catch(() => undefined);
          }
        },
      );
    },
  );
}
