import { Readable } from 'node:stream';
import type { Volume } from '../../shared/conf/volume.ts';
import {
  checkVolumeSchema,
  cloneVolumeSchema,
  createVolumeSchema,
  deleteQuery,
  extentsQuery,
  poolParams,
  refuseUsedQuery,
  renameSnapshotSchema,
  representationQuery,
  resizeVolumeSchema,
  snapshotBodySchema,
  snapshotIdSchema,
  volumeParams,
  volumeSecretSchema,
  volumesQuery,
  wipeVolumeSchema,
} from '../../shared/protocol/agent.ts';
import type { Reading } from '../../shared/protocol/reading.ts';
import { ChunkMap } from '../../shared/transfer/chunks.ts';
import { EXTENTS_TYPE } from '../../shared/transfer/frames.ts';
import { encodeExtents } from '../../shared/transfer/send.ts';
import type { Source } from '../../shared/transfer/source.ts';
import { StowageError } from '../../shared/util/errors.ts';
import type { HostAgent } from '../host-agent.ts';
import { type AgentHttp, abortSignal } from '../http.ts';
import type { OpenedVolume, Opening, PoolOperations } from '../pools/operations.ts';
import { changes, passphraseIn } from './changes.ts';

const STEP = 1 << 20;

interface ReadingRequest {
  query: Reading;
  headers: Record<string, unknown>;
}

const readingOf = ({ query: { as, snapshot }, headers }: ReadingRequest): Opening => ({
  ...{ as, snapshot },
  passphrase: passphraseIn(headers),
});

/** The one stream of bytes that plain HTTP serves. A volume of several files has none. */
function singleSource(source: OpenedVolume): Source {
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

  const { change, destroy, takeAway } = changes(agent);

  /** As it was last seen. */
  const capacityOf = (pool: string, volume: string): number =>
    pools.volumes(pool).get(volume)?.capacityBytes ?? 0;

  http.get(
    '/v1/pools/:pool/volumes',
    { schema: { params: poolParams, querystring: volumesQuery } },
    (request) => pools.page(request.params.pool, request.query.after, request.query.limit),
  );

  http.post(
    '/v1/pools/:pool/volumes',
    { schema: { params: poolParams, body: createVolumeSchema } },
    (request): Promise<Volume> => {
      const target = {
        params: { pool: request.params.pool, volume: request.body.name },
        headers: request.headers,
      };
      pools.refuseName(target.params.pool, target.params.volume);
      pools.refuseFormat(target.params.pool, request.body.format);
      return change(target, 'being created', async (pool) => {
        using _reserved = pools.reserve(request.params.pool, request.body.capacityBytes);
        const wanted = { ...request.body, passphrase: passphraseIn(request.headers) };
        return await pool.create(wanted, abortSignal(request));
      });
    },
  );

  http.get('/v1/pools/:pool/volumes/:volume', { schema: params }, async (request) => {
    const { pool, volume } = request.params;
    return (await pools.operations(pool)).look(volume);
  });

  http.get('/v1/pools/:pool/volumes/:volume/users', { schema: params }, (request) =>
    agent.domains.users(request.params.pool, request.params.volume),
  );

  /**
   * For whoever is about to take the volume away by steps of their own: throws `volume-used`, unless users are allowed, and `volume-in-use`
   * while it is mapped.
   */
  http.post(
    '/v1/pools/:pool/volumes/:volume/refuse-used',
    { schema: { ...params, querystring: refuseUsedQuery } },
    async (request) => {
      const { pool, volume } = request.params;
      if (!request.query.allowUsed) await agent.domains.refuseUsed(pool, volume);
      if (request.query.refuseMapped) await (await pools.operations(pool)).refuseMapped(volume);
      return {};
    },
  );

  http.delete(
    '/v1/pools/:pool/volumes/:volume',
    { schema: { ...params, querystring: deleteQuery } },
    (request) =>
      takeAway(request, 'being deleted', (pool) => pool.remove(request.params.volume, request.query)).then(
        () => ({}),
      ),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/resize',
    { schema: { ...params, body: resizeVolumeSchema } },
    (request) =>
      (request.body.shrink ? destroy : change)(request, 'being resized', async (operations) => {
        const { pool, volume } = request.params;
        const { capacityBytes, shrink } = request.body;
        using _reserved = pools.reserve(pool, Math.max(0, capacityBytes - capacityOf(pool, volume)));
        const passphrase = passphraseIn(request.headers);
        return await operations.resize(volume, capacityBytes, shrink, passphrase, abortSignal(request));
      }),
  );

  http.put(
    '/v1/pools/:pool/volumes/:volume/secret',
    { schema: { ...params, body: volumeSecretSchema } },
    (request) =>
      change(request, 'being opened', (pool) =>
        pool.setSecret(request.params.volume, request.body.secret, passphraseIn(request.headers)),
      ),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/wipe',
    { schema: { ...params, body: wipeVolumeSchema } },
    (request) =>
      destroy(request, 'being wiped', (pool) =>
        pool.wipe(
          request.params.volume,
          request.body.algorithm,
          passphraseIn(request.headers),
          abortSignal(request),
        ),
      ),
  );

  http.post(
    '/v1/pools/:pool/volumes/:volume/clone',
    { schema: { ...params, body: cloneVolumeSchema } },
    async (request) => {
      pools.refuseName(request.params.pool, request.body.name);
      using _reader = use.read(`${request.params.pool}/${request.params.volume}`, 'being cloned');
      const target = {
        params: { pool: request.params.pool, volume: request.body.name },
        headers: request.headers,
      };
      return await change(target, 'being created', async (operations) => {
        const { pool, volume } = request.params;
        const { name, linked, snapshot } = request.body;
        using _reserved = pools.reserve(pool, capacityOf(pool, volume));
        if (snapshot !== undefined && !linked)
          throw new StowageError('invalid-argument', 'a clone of a snapshot is a linked one');
        return linked
          ? await operations.cloneLinked(volume, name, snapshot, abortSignal(request))
          : await operations.clone(volume, name, abortSignal(request));
      });
    },
  );

  /** What is wrong with a volume; with `repair` it is mended, and the answer says what was wrong. */
  http.post(
    '/v1/pools/:pool/volumes/:volume/check',
    { schema: { ...params, body: checkVolumeSchema } },
    async (request) => {
      const { repair } = request.body;
      const check = (pool: PoolOperations) => pool.check(request.params.volume, repair, abortSignal(request));
      if (repair) return change(request, 'being repaired', check);
      using _reader = use.read(`${request.params.pool}/${request.params.volume}`, 'being checked');
      return await check(await pools.operations(request.params.pool));
    },
  );

  http.post('/v1/pools/:pool/volumes/:volume/map', { schema: params }, (request) =>
    destroy(request, 'being mapped', (pool) => pool.map(request.params.volume)),
  );
  http.get('/v1/pools/:pool/volumes/:volume/map', { schema: params }, async (request) => {
    const { pool, volume } = request.params;
    return { device: await (await pools.operations(pool)).mappedAs(volume) };
  });

  http.delete('/v1/pools/:pool/volumes/:volume/map', { schema: params }, (request) =>
    change(request, 'being unmapped', async (pool) => ({
      devices: await pool.unmap(request.params.volume),
    })),
  );

  http.get('/v1/pools/:pool/volumes/:volume/snapshots', { schema: params }, async (request) =>
    (await pools.operations(request.params.pool)).listSnapshots(request.params.volume),
  );
  http.post(
    '/v1/pools/:pool/volumes/:volume/snapshots',
    { schema: { ...params, body: snapshotBodySchema } },
    (request) =>
      change(request, 'being snapshotted', async (pool) => ({
        id: await pool.createSnapshot(request.params.volume, request.body.id),
      })),
  );
  const snapshotParams = { params: volumeParams.extend({ snapshot: snapshotIdSchema }) };
  http.post(
    '/v1/pools/:pool/volumes/:volume/snapshots/:snapshot/switch',
    { schema: snapshotParams },
    (request) =>
      destroy(request, 'switching snapshots', (pool) =>
        pool.switchSnapshot(request.params.volume, request.params.snapshot),
      ).then(() => ({})),
  );
  http.patch(
    '/v1/pools/:pool/volumes/:volume/snapshots/:snapshot',
    { schema: { ...snapshotParams, body: renameSnapshotSchema } },
    (request) =>
      change(request, 'renaming a snapshot', (pool) =>
        pool.renameSnapshot(request.params.volume, request.params.snapshot, request.body.id),
      ).then(() => ({})),
  );
  http.delete('/v1/pools/:pool/volumes/:volume/snapshots/:snapshot', { schema: snapshotParams }, (request) =>
    change(request, 'merging a snapshot', (pool) =>
      pool.deleteSnapshot(request.params.volume, request.params.snapshot, abortSignal(request)),
    ).then(() => ({})),
  );

  // ---- reading the bytes ----

  const reading = { schema: { ...params, querystring: representationQuery } };

  http.get('/v1/pools/:pool/volumes/:volume/layout', reading, async (request) => {
    const { pool, volume } = request.params;
    const operations = await pools.operations(pool);
    await using opened = await operations.open(volume, readingOf(request));
    return opened.layout;
  });

  /** Opens a volume once, and keeps it from being changed until it is closed. */
  const open = async (
    request: ReadingRequest & { params: { pool: string; volume: string } },
  ): Promise<OpenedVolume> => {
    const { pool, volume } = request.params;
    const operations = await pools.operations(pool);
    const reader = use.read(`${pool}/${volume}`, 'being read');
    try {
      const opened = await operations.open(volume, readingOf(request));
      return {
        layout: opened.layout,
        sources: opened.sources,
        checkUnchanged: () => opened.checkUnchanged(),
        async [Symbol.asyncDispose]() {
          reader[Symbol.dispose]();
          await opened[Symbol.asyncDispose]();
        },
      };
    } catch (error) {
      reader[Symbol.dispose]();
      throw error;
    }
  };

  /** Streams what `produce` reads of an opened volume, and closes it at the end, whatever the end is. */
  const streamOf = (
    request: Parameters<typeof abortSignal>[0],
    opened: OpenedVolume,
    produce: () => AsyncGenerator<Buffer>,
  ): Readable => {
    // Whoever has the last byte takes the whole for one state of the volume: it is not sent before that is known.
    async function* guarded(): AsyncGenerator<Buffer> {
      let last: Buffer | undefined;
      for await (const piece of produce()) {
        if (last) yield last;
        last = piece;
      }
      await opened.checkUnchanged();
      if (last) yield last;
    }
    const readable = Readable.from(guarded(), { objectMode: false, highWaterMark: STEP });
    let closed = false;
    const close = (): void => {
      if (closed) return;
      closed = true;
      readable.destroy();
      void Promise.resolve(opened[Symbol.asyncDispose]()).catch(() => undefined);
    };
    readable.once('close', close);
    // A stream that nobody reads any more may never close by itself.
    abortSignal(request).addEventListener('abort', close, { once: true });
    return readable;
  };

  http.get(
    '/v1/pools/:pool/volumes/:volume/extents',
    { schema: { ...params, querystring: extentsQuery } },
    async (request, reply) => {
      const opened = await open(request);
      const { etag, from } = request.query;
      if (etag !== undefined && etag !== opened.layout.etag) {
        await opened[Symbol.asyncDispose]();
        throw new StowageError('volume-changed', `volume '${request.params.volume}' has changed`);
      }
      const readable = streamOf(request, opened, () =>
        encodeExtents(opened.sources, new ChunkMap(opened.layout.parts), { skip: (index) => index < from }),
      );
      return reply.type(EXTENTS_TYPE).send(readable);
    },
  );

  http.get('/v1/pools/:pool/volumes/:volume/data', reading, async (request, reply) => {
    // Opened once: size, ETag and bytes are of one state.
    const opened = await open(request);
    try {
      const source = singleSource(opened);
      const { sizeBytes } = source;
      const etag = `"${opened.layout.etag}-${request.query.as}"`;
      const fresh = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
      const range = fresh ? parseRange(request.headers.range, sizeBytes) : undefined;
      const { from, to } = range ?? { from: 0, to: sizeBytes };
      void reply.headers({
        etag,
        'accept-ranges': 'bytes',
        'content-length': to - from,
        'content-type': 'application/octet-stream',
      });
      if (range) void reply.code(206).header('content-range', `bytes ${from}-${to - 1}/${sizeBytes}`);
      if (request.method === 'HEAD') {
        await opened[Symbol.asyncDispose]();
        // An empty stream, not nothing: for nothing Fastify would say that the length is 0.
        return reply.send(Readable.from([]));
      }
      return reply.send(streamOf(request, opened, () => bytesOf(source, from, to)));
    } catch (error) {
      await opened[Symbol.asyncDispose]();
      throw error;
    }
  });
}
