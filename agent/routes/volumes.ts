import { Readable } from 'node:stream';
import type { Volume } from '../../shared/conf/volume.ts';
import {
  ALLOW_USED_HEADER,
  cloneVolumeSchema,
  createVolumeSchema,
  deleteQuery,
  FENCE_HEADER,
  poolParams,
  representationQuery,
  resizeVolumeSchema,
  snapshotBodySchema,
  volumeParams,
  wipeVolumeSchema,
} from '../../shared/protocol/agent.ts';
import { ChunkMap } from '../../shared/transfer/chunks.ts';
import { EXTENTS_TYPE } from '../../shared/transfer/frames.ts';
import { encodeExtents } from '../../shared/transfer/send.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { PoolDriver, VolumeSource } from '../backends/backend.ts';
import type { HostAgent } from '../host-agent.ts';
import { type AgentHttp, abortSignal } from '../http.ts';

const STEP = 1 << 20;

/** A method that the pool's backend has, bound to it. Throws `not-supported`. */
export function supported<K extends keyof PoolDriver>(
  driver: PoolDriver,
  method: K,
): NonNullable<PoolDriver[K]> {
  const found = driver[method];
  if (typeof found !== 'function')
    throw new StowageError('not-supported', `storage pool doesn't support ${method}`);
  return found.bind(driver) as NonNullable<PoolDriver[K]>;
}

/** The holder of an old lease does no harm: its token is refused before anything is touched. */
export async function checkFence(
  agent: HostAgent,
  headers: Record<string, unknown>,
  pool: string,
  volume: string,
): Promise<void> {
  const token = headers[FENCE_HEADER];
  if (token === undefined) return;
  if (typeof token !== 'string' || !/^\d{1,15}$/.test(token))
    throw new StowageError('invalid-argument', `${FENCE_HEADER} must be a number`);
  await agent.state.fence(`${pool}/${volume}`, Number(token));
}

/** The one stream of bytes that plain HTTP serves. A volume of several files has none. */
function singleSource(source: VolumeSource): Source {
  const images = source.layout.parts
    .map((part, index) => ({ part, index }))
    .filter(({ part }) => part.dense || part.name === '');
  if (images.length !== 1) {
    throw new StowageError(
      'volume-has-snapshots',
      "can't download volume, all existing snapshots will be lost; take --as content, or delete the snapshots",
    );
  }
  return source.sources[images[0]!.index]!;
}

async function* bytesOf(source: Source, from: number, to: number): AsyncGenerator<Buffer> {
  for (let offset = from; offset < to; offset += STEP) {
    const piece = Buffer.allocUnsafe(Math.min(STEP, to - offset));
    await source.read(piece, offset);
    yield piece;
  }
}

/** First and last byte of a Range header with one range; undefined where there is none. Throws `invalid-range`. */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): { from: number; to: number } | undefined {
  if (header === undefined) return undefined;
  const match = /^bytes=(\d*)-(\d*)$/.exec(header);
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const from = match[1] === '' ? Math.max(0, sizeBytes - Number(match[2])) : Number(match[1]);
  const to = match[1] === '' || match[2] === '' ? sizeBytes : Math.min(Number(match[2]) + 1, sizeBytes);
  if (from >= sizeBytes || from >= to)
    throw new StowageError('invalid-range', `the volume has ${sizeBytes} bytes`);
  return { from, to };
}

export function volumeRoutes(http: AgentHttp, agent: HostAgent): void {
  const { pools, use } = agent;
  const params = { params: volumeParams };

  /** Runs a change of one volume: fenced, alone on it, and the new state told to everybody. */
  const change = async <T>(
    request: { params: { pool: string; volume: string }; headers: Record<string, unknown> },
    purpose: string,
    work: (driver: PoolDriver) => Promise<T>,
  ): Promise<T> => {
    const { pool, volume } = request.params;
    const driver = pools.driver(pool);
    await checkFence(agent, request.headers, pool, volume);
    using _writer = use.write(`${pool}/${volume}`, purpose);
    try {
      return await work(driver);
    } finally {
      await pools.refresh(pool).catch(() => undefined);
    }
  };

  /** As {@link change}, for what a guest would miss: refused while a domain uses the volume, unless that is allowed. */
  const destroy: typeof change = (request, purpose, work) =>
    change(request, purpose, async (driver) => {
      const { pool, volume } = request.params;
      if (request.headers[ALLOW_USED_HEADER] === undefined) await agent.domains.refuseUsed(pool, volume);
      return await work(driver);
    });

  http.get('/v1/pools/:pool/volumes', { schema: { params: poolParams } }, (request) =>
    pools.volumes(request.params.pool),
  );

  http.post(
    '/v1/pools/:pool/volumes',
    { schema: { params: poolParams, body: createVolumeSchema } },
    (request): Promise<Volume> => {
      const target = {
        params: { pool: request.params.pool, volume: request.body.name },
        headers: request.headers,
      };
      return change(target, 'being created', (driver) =>
        supported(driver, 'createVolume')(request.body, abortSignal(request)),
      );
    },
  );

  http.get('/v1/pools/:pool/volumes/:volume', { schema: params }, async (request) => {
    const { pool, volume } = request.params;
    const found = (await pools.driver(pool).refresh()).find(({ name }) => name === volume);
    if (!found) throw new StowageError('volume-not-found', `pool '${pool}' has no volume '${volume}'`);
    return found;
  });

  http.get('/v1/pools/:pool/volumes/:volume/users', { schema: params }, (request) =>
    agent.domains.users(request.params.pool, request.params.volume),
  );

  /** Throws `volume-used`: for whoever is about to take the volume away by steps of their own. */
  http.post('/v1/pools/:pool/volumes/:volume/refuse-used', { schema: params }, async (request) => {
    await agent.domains.refuseUsed(request.params.pool, request.params.volume);
    return {};
  });

  http.delete(
    '/v1/pools/:pool/volumes/:volume',
    { schema: { ...params, querystring: deleteQuery } },
    (request) =>
      destroy(request, 'being deleted', (driver) =>
        supported(driver, 'deleteVolume')(request.params.volume, request.query.etag),
      ).then(() => ({})),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/resize',
    { schema: { ...params, body: resizeVolumeSchema } },
    (request) =>
      (request.body.shrink ? destroy : change)(request, 'being resized', (driver) =>
        supported(driver, 'resizeVolume')(
          request.params.volume,
          request.body.capacityBytes,
          request.body.shrink,
        ),
      ),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/wipe',
    { schema: { ...params, body: wipeVolumeSchema } },
    (request) =>
      destroy(request, 'being wiped', (driver) =>
        supported(driver, 'wipeVolume')(request.params.volume, request.body.algorithm, abortSignal(request)),
      ),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/clone',
    { schema: { ...params, body: cloneVolumeSchema } },
    async (request) => {
      using _reader = use.read(`${request.params.pool}/${request.params.volume}`, 'being cloned');
      const target = { params: { pool: request.params.pool, volume: request.body.name }, headers: {} };
      return await change(target, 'being created', (driver) =>
        supported(driver, 'cloneVolume')(request.params.volume, request.body.name, abortSignal(request)),
      );
    },
  );

  http.get('/v1/pools/:pool/volumes/:volume/snapshots', { schema: params }, (request) =>
    supported(pools.driver(request.params.pool), 'listSnapshots')(request.params.volume),
  );
  http.post(
    '/v1/pools/:pool/volumes/:volume/snapshots',
    { schema: { ...params, body: snapshotBodySchema } },
    (request) =>
      change(request, 'being snapshotted', async (driver) => ({
        id: await supported(driver, 'createSnapshot')(request.params.volume, request.body.id),
      })),
  );
  const snapshotParams = { params: volumeParams.extend({ snapshot: snapshotBodySchema.shape.id.unwrap() }) };
  http.post(
    '/v1/pools/:pool/volumes/:volume/snapshots/:snapshot/switch',
    { schema: snapshotParams },
    (request) =>
      destroy(request, 'switching snapshots', (driver) =>
        supported(driver, 'switchSnapshot')(request.params.volume, request.params.snapshot),
      ).then(() => ({})),
  );
  http.delete('/v1/pools/:pool/volumes/:volume/snapshots/:snapshot', { schema: snapshotParams }, (request) =>
    change(request, 'merging a snapshot', (driver) =>
      supported(driver, 'deleteSnapshot')(
        request.params.volume,
        request.params.snapshot,
        abortSignal(request),
      ),
    ).then(() => ({})),
  );

  // ---- reading the bytes ----

  const reading = { schema: { ...params, querystring: representationQuery } };

  http.get('/v1/pools/:pool/volumes/:volume/layout', reading, async (request) => {
    const { pool, volume } = request.params;
    const source = await supported(pools.driver(pool), 'openSource')(
      volume,
      request.query.as,
      abortSignal(request),
    );
    await source.close();
    return source.layout;
  });

  /** Keeps the volume from being changed as long as the answer streams. */
  const stream = async (
    request: {
      params: { pool: string; volume: string };
      query: { as: 'image' | 'content' };
      raw: Parameters<typeof abortSignal>[0]['raw'];
    },
    produce: (source: VolumeSource) => AsyncGenerator<Buffer>,
  ): Promise<Readable> => {
    const { pool, volume } = request.params;
    const open = supported(pools.driver(pool), 'openSource');
    const reader = use.read(`${pool}/${volume}`, 'being read');
    const source = await open(volume, request.query.as, abortSignal(request)).catch((error) => {
      reader[Symbol.dispose]();
      throw error;
    });
    async function* guarded(): AsyncGenerator<Buffer> {
      yield* produce(source);
      await source.checkUnchanged();
    }
    const readable = Readable.from(guarded(), { objectMode: false, highWaterMark: STEP });
    readable.once('close', () => {
      reader[Symbol.dispose]();
      void source.close();
    });
    return readable;
  };

  http.get('/v1/pools/:pool/volumes/:volume/extents', reading, async (request, reply) => {
    const readable = await stream(request, (source) =>
      encodeExtents(source.sources, new ChunkMap(source.layout.parts)),
    );
    return reply.type(EXTENTS_TYPE).send(readable);
  });

  http.get('/v1/pools/:pool/volumes/:volume/data', reading, async (request, reply) => {
    const { pool, volume } = request.params;
    let answer:
      | { sizeBytes: number; range: { from: number; to: number } | undefined; etag: string }
      | undefined;
    const probe = await supported(pools.driver(pool), 'openSource')(
      volume,
      request.query.as,
      abortSignal(request),
    );
    try {
      const { sizeBytes } = singleSource(probe);
      const etag = `"${probe.layout.etag}-${request.query.as}"`;
      const fresh = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
      answer = { sizeBytes, range: fresh ? parseRange(request.headers.range, sizeBytes) : undefined, etag };
    } finally {
      await probe.close();
    }
    const { from, to } = answer.range ?? { from: 0, to: answer.sizeBytes };
    void reply.headers({
      etag: answer.etag,
      'accept-ranges': 'bytes',
      'content-length': to - from,
      'content-type': 'application/octet-stream',
    });
    if (answer.range)
      void reply.code(206).header('content-range', `bytes ${from}-${to - 1}/${answer.sizeBytes}`);
    // An empty stream, not nothing: for nothing Fastify would say that the length is 0.
    if (request.method === 'HEAD') return reply.send(Readable.from([]));
    return reply.send(await stream(request, (source) => bytesOf(singleSource(source), from, to)));
  });
}
