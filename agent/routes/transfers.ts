import type { Server as HttpServer } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import type { Volume } from '../../shared/conf/volume.ts';
import {
  commitSchema,
  doorRequestSchema,
  type Offer,
  type PullProgress,
  poolParams,
  pullRequestSchema,
  RELAY_UPGRADE,
  sendRequestSchema,
  type TransferSpec,
  type TransferStatus,
  transferParams,
  transferSpecSchema,
} from '../../shared/protocol/agent.ts';
import { chunkBuffers } from '../../shared/transfer/chunk-buffers.ts';
import { CHUNK_BYTES } from '../../shared/transfer/chunks.ts';
import { Outgoing } from '../../shared/transfer/outgoing.ts';
import { pullVolume } from '../../shared/transfer/pull.ts';
import { decodeExtents } from '../../shared/transfer/receive.ts';
import { clock } from '../../shared/util/clock.ts';
import { StowageError, toStowageError } from '../../shared/util/errors.ts';
import { isZero } from '../host/files.ts';
import { type HostAgent, RelayedStreams } from '../host-agent.ts';
import { type AgentHttp, abortSignal, JSON_LINES, JsonLines } from '../http.ts';
import { listenAnywhere, SourceDoor } from '../transfer/door.ts';
import { seed } from '../transfer/seed.ts';
import { openSideDoor } from '../transfer/side-door.ts';
import { Sink } from '../transfer/sink.ts';
import { checkFence, passphraseIn } from './changes.ts';

const PROGRESS_MS = 200;
/** Of those who dial a sink, strangers among them. */
const MOST_CONNECTIONS = 64;
/** Refusals that one door tells of: a scanner shall not fill the audit trail. */
const MOST_REFUSALS = 20;
/** Chunks of a plain upload that are hashed and written side by side: 12 MiB of memory. */
const WRITES_AT_ONCE = 6;

function lineError(error: unknown): { code: string; detail: string } {
  const { code, message } = toStowageError(error);
  return { code, detail: message };
}

function status(sink: Sink): TransferStatus {
  const { digests } = sink;
  return {
    id: sink.spec.id,
    pool: sink.spec.pool,
    volume: sink.spec.volume,
    totalBytes: digests.map.totalBytes,
    doneBytes: digests.doneBytes(),
    contiguousBytes: digests.contiguousBytes(),
    complete: digests.complete,
    touchedAt: sink.touchedAt,
  };
}

/**
 * Takes plain bytes from `offset`, which must be the start of a chunk, and writes each chunk as it fills. What a cut
 * connection left of the last chunk is thrown away: the sender asks where to go on.
 */
async function receiveBytes(sink: Sink, offset: number, body: AsyncIterable<Buffer>): Promise<void> {
  const { map } = sink.digests;
  if (map.parts.length !== 1)
    throw new StowageError('invalid-argument', 'a volume of several files is not uploaded as plain bytes');
  if (offset % CHUNK_BYTES !== 0)
    throw new StowageError('upload-offset', 'an upload goes on at a multiple of 2 MiB; ask for the offset');
  let index = offset / CHUNK_BYTES;
  const writes = new Set<Promise<void>>();
  let failed: unknown;
  const store = async (at: number, bytes: Buffer<ArrayBuffer>): Promise<void> => {
    const zero = isZero(bytes);
    const digest = zero ? map.zeroDigest(bytes.length) : await map.digestOf(bytes);
    await sink.write({
      index: at,
      digest,
      verified: Promise.resolve(),
      data: zero ? undefined : { bytes, ranges: [{ start: 0, end: bytes.length }] },
    });
  };
  /** Aligned memory, which goes straight to the disk. */
  let buffer: Buffer<ArrayBuffer> | undefined;
  let filled = 0;
  try {
    for await (const piece of body) {
      for (let used = 0; used < piece.length; ) {
        if (index >= map.count) throw new StowageError('too-large', 'more bytes arrived than were announced');
        buffer ??= chunkBuffers.borrow();
        const { length } = map.chunk(index);
        const part = piece.subarray(used, used + length - filled);
        part.copy(buffer, filled);
        filled += part.length;
        used += part.length;
        if (filled < length) continue;
        const full = buffer;
        const write = store(index++, full.subarray(0, length)).finally(() => {
          writes.delete(write);
          chunkBuffers.giveBack(full);
        });
        write.catch((error) => {
          failed ??= error;
        });
        writes.add(write);
        buffer = undefined;
        filled = 0;
        if (writes.size >= WRITES_AT_ONCE) await Promise.race(writes);
        if (failed) throw failed;
      }
    }
  } finally {
    if (buffer) chunkBuffers.giveBack(buffer);
    // Also when the sender has gone: what is being written is written.
    await Promise.allSettled(writes);
  }
  if (failed) throw failed;
}

/** The sink's and the source's side of moving a volume. */
export function transferRoutes(http: AgentHttp, agent: HostAgent, server: HttpServer): void {
  const { pools, sinks, use } = agent;
  const commits = new Map<string, ReturnType<Sink['commit']>>();
  const params = { params: transferParams };

  http.get('/v1/transfers', () => sinks.list());

  /** The volume that a transfer became, when it was committed before and its answer was lost. */
  const committed = (transfer: string): Promise<Volume | undefined> =>
    pools.first((pool) => pool.committed(transfer));

  /** The volume of a pool that a transfer became. */
  http.get(
    '/v1/pools/:pool/transferred/:transfer',
    { schema: { params: transferParams.extend(poolParams.shape) } },
    async (request) => {
      const { pool, transfer } = request.params;
      const volume = await (await pools.operations(pool)).committed(transfer);
      if (volume) return volume;
      throw new StowageError(
        'volume-not-found',
        `pool '${pool}' has no volume that transfer ${transfer} has brought`,
      );
    },
  );

  /** A guest would go on with the file that was replaced, and all it writes be lost. */
  const refuseUsed = async ({ pool, volume, replace, allowUsed }: TransferSpec): Promise<void> => {
    if (replace && !allowUsed) await agent.domains.refuseUsed(pool, volume);
  };

  const refuse = async (spec: TransferSpec): Promise<void> => {
    pools.refuseName(spec.pool, spec.volume);
    pools.refuseFormat(spec.pool, spec.format);
    await refuseUsed(spec);
  };

  http.post('/v1/transfers', { schema: { body: transferSpecSchema } }, async (request) => {
    const spec = request.body;
    await checkFence(agent, request.headers, spec.pool, spec.volume);
    await refuse(spec);
    return status(await sinks.begin(spec));
  });

  /** Throws what would keep a transfer from being begun, and begins nothing. */
  http.post('/v1/transfers/check', { schema: { body: transferSpecSchema } }, async (request) => {
    await refuse(request.body);
    await sinks.check(request.body);
    return {};
  });

  http.get('/v1/transfers/:transfer', { schema: params }, async (request) =>
    status(await sinks.find(request.params.transfer)),
  );

  http.delete('/v1/transfers/:transfer', { schema: params }, async (request) => {
    await agent.endPull(request.params.transfer);
    await sinks.drop(request.params.transfer);
    return {};
  });

  http.put('/v1/transfers/:transfer/extents', { schema: params }, async (request) => {
    const sink = await sinks.find(request.params.transfer);
    await decodeExtents(request.body as AsyncIterable<Buffer>, sink.digests.map, (chunk) =>
      sink.write(chunk),
    );
    await sink.flush();
    return status(sink);
  });

  http.get('/v1/transfers/:transfer/digests', { schema: params }, async (request, reply) => {
    const sink = await sinks.find(request.params.transfer);
    return reply.type('application/octet-stream').send(sink.digests.serialise());
  });

  const offsetQuery = z.object({ offset: z.coerce.number().int().nonnegative() });
  http.put(
    '/v1/transfers/:transfer/bytes',
    { schema: { ...params, querystring: offsetQuery } },
    async (request) => {
      const sink = await sinks.find(request.params.transfer);
      await receiveBytes(sink, request.query.offset, request.body as AsyncIterable<Buffer>);
      await sink.flush();
      return status(sink);
    },
  );

  /** Fills a transfer with what the volume holds that it is to replace: of that only what differs will travel. */
  http.post('/v1/transfers/:transfer/seed', { schema: params }, async (request) => {
    const { transfer } = request.params;
    await agent.endPull(transfer);
    const sink = await sinks.find(transfer);
    const { pool, volume, representation } = sink.spec;
    const stop = new AbortController();
    const work = async (): Promise<number> => {
      using _reader = use.read(`${pool}/${volume}`, 'being compared');
      const operations = await pools.operations(pool);
      const passphrase = passphraseIn(request.headers);
      await using opened = await operations.open(volume, { as: representation, passphrase });
      return await seed(sink, opened, AbortSignal.any([abortSignal(request), stop.signal]));
    };
    const seeded = work();
    // What comes next for this transfer waits for its end.
    const pull = { stop, relayed: new RelayedStreams(), ended: seeded.catch(() => undefined) };
    agent.pulls.set(transfer, pull);
    try {
      return { chunks: await seeded };
    } finally {
      if (agent.pulls.get(transfer) === pull) agent.pulls.delete(transfer);
    }
  });

  /** Fetches the volume from its source. The answer is one line of progress after the other; cutting it stops the pull. */
  http.post(
    '/v1/transfers/:transfer/pull',
    { schema: { ...params, body: pullRequestSchema } },
    async (request, reply) => {
      const { transfer } = request.params;
      const { ticket, way } = request.body;
      await agent.endPull(transfer);
      const sink = await sinks.find(transfer);
      const stop = new AbortController();
      const relayed = new RelayedStreams();
      const signal = AbortSignal.any([abortSignal(request), stop.signal]);
      const lines = new JsonLines();
      let last: PullProgress = { doneBytes: 0, totalBytes: 0, wireBytes: 0 };
      const timer = clock.every(PROGRESS_MS, () => lines.write(last));
      const onProgress = (progress: PullProgress): void => {
        last = progress;
      };
      let tcp: Server | undefined;
      if (way.kind === 'listen') {
        tcp = await listenAnywhere();
        tcp.maxConnections = MOST_CONNECTIONS;
        tcp.on('error', () => undefined);
        tcp.on('connection', (socket) => relayed.bring(socket.setNoDelay(true).setKeepAlive(true, 10_000)));
        lines.write({ port: (tcp.address() as AddressInfo).port } satisfies Offer);
      }
      const ended = pullVolume(sink, {
        ticket: { transfer, secret: ticket },
        ...(way.kind === 'dial' ? way : { addresses: [], port: 0 }),
        relay: way.kind === 'dial' ? undefined : (end) => relayed.take(end),
        onProgress,
        signal,
      }).then(
        (pulled) => lines.write({ ...last, ...pulled }),
        (error) => lines.write({ ...last, error: lineError(error) }),
      );
      const pull = { stop, relayed, ended };
      agent.pulls.set(transfer, pull);
      void ended.finally(() => {
        timer.stop();
        tcp?.close();
        relayed[Symbol.dispose]();
        if (agent.pulls.get(transfer) === pull) agent.pulls.delete(transfer);
        lines.end();
      });
      return reply.type(JSON_LINES).send(lines.stream);
    },
  );

  http.post(
    '/v1/transfers/:transfer/commit',
    { schema: { ...params, body: commitSchema } },
    async (request) => {
      const { transfer } = request.params;
      const sink = await sinks.find(transfer).catch(async (error) => {
        const before = await committed(transfer);
        if (before) return before;
        throw error;
      });
      if (!(sink instanceof Sink)) return { volume: sink, digest: request.body.digest ?? '' };
      const { pool, volume } = sink.spec;
      await checkFence(agent, request.headers, pool, volume);
      await agent.endPull(transfer);
      if (!commits.has(transfer)) await refuseUsed(sink.spec);
      // Asked again because an answer was lost, the commit under way is joined, not refused.
      let commit = commits.get(transfer);
      if (!commit) {
        const writer = use.write(`${pool}/${volume}`, 'being put in place');
        const work = async (): ReturnType<Sink['commit']> => {
          using _growth = await sinks.reserveGrowth(sink);
          return await sink.commit(request.body.digest, passphraseIn(request.headers));
        };
        commit = work().finally(() => {
          writer[Symbol.dispose]();
          commits.delete(transfer);
        });
        void commit.then(
          () => sinks.ended(transfer),
          () => undefined,
        );
        commits.set(transfer, commit);
      }
      return await commit;
    },
  );

  /** Opens a door to a volume for one sink. The answer is where the door is; it stays open until the request is cut. */
  http.post('/v1/sends', { schema: { body: sendRequestSchema } }, async (request, reply) => {
    const {
      transfer,
      pool,
      volume,
      representation,
      snapshot,
      digest,
      ticket,
      expiresAt,
      limitBytesPerSecond,
    } = request.body;
    const signal = abortSignal(request);
    // One attempt after the other: what an earlier one left, whose end nobody told us of, must not hold the volume.
    await agent.sends.get(transfer)?.end();
    await using opening = new AsyncDisposableStack();
    const reader = use.read(`${pool}/${volume}`, 'being sent to another host');
    opening.use(reader);
    const operations = await pools.operations(pool);
    const passphrase = passphraseIn(request.headers);
    const source = opening.use(
      await operations.open(volume, { as: representation, snapshot, passphrase }, signal),
    );
    const lines = new JsonLines();
    const outgoing = new Outgoing(source, digest, limitBytesPerSecond, (root) =>
      lines.write({ sent: { digest: root } }),
    );
    let refusals = 0;
    const door = opening.use(
      await SourceDoor.open({
        outgoing,
        ticket: { transfer, secret: ticket },
        expiresAt,
        onRefused(from, reason) {
          if (++refusals <= MOST_REFUSALS) lines.write({ refused: { from, reason } });
        },
      }),
    );
    signal.throwIfAborted();
    const open = opening.move();
    let ended: Promise<void> | undefined;
    const send = {
      door,
      end: () => {
        ended ??= open.disposeAsync().finally(() => {
          if (agent.sends.get(transfer) === send) agent.sends.delete(transfer);
          lines.end();
        });
        return ended;
      },
    };
    agent.sends.set(transfer, send);
    // A source whose files cannot be closed is let go of all the same.
    signal.addEventListener('abort', () => void send.end().catch(() => undefined));
    lines.write(door.offer);
    return reply.type(JSON_LINES).send(lines.stream);
  });

  /** Ends the sending of a transfer. Settles when the volume is free, also when nobody was sending. */
  http.delete('/v1/sends/:transfer', { schema: params }, async (request) => {
    await agent.sends.get(request.params.transfer)?.end();
    return {};
  });

  /** A port at which the controller may dial one stream to this server, past its link. */
  http.post('/v1/doors', { schema: { body: doorRequestSchema } }, async (request): Promise<Offer> => {
    const { id, ticket } = request.body;
    return {
      port: await openSideDoor({ transfer: id, secret: ticket }, (stream) =>
        server.emit('connection', stream),
      ),
    };
  });

  // The controller joins two of these into one stream, and cannot read what passes: it is TLS from agent to agent.
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    socket.on('error', () => socket.destroy());
    const match = /^\/v1\/(transfers|sends)\/([0-9a-f-]{36})\/relay$/.exec(request.url ?? '');
    const [, side, transfer] = match ?? [];
    const pull = side === 'transfers' ? agent.pulls.get(transfer!) : undefined;
    const door = side === 'sends' ? agent.sends.get(transfer!)?.door : undefined;
    if ((!pull && !door) || request.headers.upgrade !== RELAY_UPGRADE) {
      socket.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: ${RELAY_UPGRADE}\r\n\r\n`,
    );
    if (head.length > 0) socket.unshift(head);
    if (door) door.accept(socket);
    else pull?.relayed.bring(socket);
  });
}
